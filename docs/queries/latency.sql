-- Question: how late did trades reach us?
-- Shows: milliseconds from the venue's time to ours by hour and source; estimated times say nothing of that.
SELECT bucket('1h', ts_event) AS hour, source, count(*) AS trades,
       round(quantile_cont(epoch_us(ts_recv) - epoch_us(ts_event), 0.5) / 1e3, 3) AS p50_ms,
       round(quantile_cont(epoch_us(ts_recv) - epoch_us(ts_event), 0.99) / 1e3, 3) AS p99_ms
FROM trades('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
WHERE NOT ts_estimated
GROUP BY ALL
ORDER BY hour, source;
