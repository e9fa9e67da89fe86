-- Question: how wide was the spread, weighted by how long it held?
-- Shows: basis points by five minutes. Most quotes share their millisecond with another: the last of them counts.
WITH quoted AS (
    SELECT ts_event, bid, ask, lead(ts_event) OVER (ORDER BY ts_event, update_id) AS until
    FROM quotes('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
)
SELECT bucket('5m', ts_event) AS window_start,
       sum((ask - bid) / (ask + bid) * 2e4 * epoch(until - ts_event)) / sum(epoch(until - ts_event)) AS spread_bps,
       count(*) AS quotes
FROM quoted
WHERE until > ts_event
GROUP BY ALL
ORDER BY 1;
