-- Question: who was in a hurry, buyers or sellers?
-- Shows: taker volume by side and minute, and the running difference of both (cumulative volume delta).
SELECT bucket('1m', ts_event) AS minute, sum(qty_base) FILTER (side = 'buy') AS bought,
       sum(qty_base) FILTER (side = 'sell') AS sold,
       sum(sum(CASE side WHEN 'buy' THEN qty_base WHEN 'sell' THEN -qty_base END)) OVER (ORDER BY bucket('1m', ts_event))
           AS delta
FROM trades('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
GROUP BY minute
ORDER BY minute;
