-- Question: what was the volume-weighted average price of each hour?
-- Shows: price, base and quote volume and trades by hour; qty_base and qty_quote are right for inverse contracts too.
SELECT bucket('1h', ts_event) AS hour, sum(qty_quote) / sum(qty_base) AS vwap, sum(qty_base) AS base,
       sum(qty_quote) AS quote, count(*) AS trades
FROM trades('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
GROUP BY hour
ORDER BY hour;
