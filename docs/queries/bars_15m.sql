-- Question: what are the bars of 15 minutes?
-- Shows: bars of any width that divides a day, folded from minutes; `gap` where trades are missing.
SELECT window_start, open, high, low, close, volume_base, trade_count, gap
FROM bars('15m', 'binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
ORDER BY window_start;
