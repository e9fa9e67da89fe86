-- Question: how volatile was each hour?
-- Shows: realised volatility of an hour from returns of neighbouring minutes, in per cent; none is taken over a gap.
WITH returns AS (
    SELECT window_start, ln(close / lag(close) OVER minutes) AS r, window_start - lag(window_start) OVER minutes AS step
    FROM bars_1m('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
    WINDOW minutes AS (ORDER BY window_start)
)
SELECT bucket('1h', window_start) AS hour, count(r) AS minutes, round(100 * sqrt(sum(r * r)), 4) AS volatility
FROM returns
WHERE step = INTERVAL 1 MINUTE
GROUP BY hour
ORDER BY hour;
