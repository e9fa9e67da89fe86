-- Question: what does the same thing cost elsewhere at the same time?
-- Shows: closes of two venues side by side; say both listings, since one ticker may name two things.
SELECT a.window_start, a.close AS binance, b.close AS okx, round((b.close / a.close - 1) * 1e4, 3) AS difference_bps
FROM bars_1m('binance', 'BTCUSDT', '2024-07-19', '2024-07-20') a
JOIN bars_1m('okx', 'BTC-USDT-SWAP', '2024-07-19', '2024-07-20') b USING (window_start)
ORDER BY a.window_start;
