-- Question: did trades happen at the quote, inside or outside of it?
-- Shows: an as-of join. Each trade meets the last quote at or before it; the slippage is against its middle.
SELECT CASE WHEN bid IS NULL THEN 'no quote' WHEN price >= ask THEN 'at the ask' WHEN price <= bid THEN 'at the bid'
            ELSE 'inside' END AS place,
       count(*) AS trades, sum(qty_base) AS base,
       round(avg(abs(price / ((bid + ask) / 2) - 1)) * 1e4, 3) AS slippage_bps
FROM trades_quoted('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
GROUP BY place
ORDER BY trades DESC, place;
