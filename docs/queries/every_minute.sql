-- Question: how do I get a row for every minute, also where nothing was traded?
-- Shows: the last close carried on, but not over a gap: behind one `price` is null until the next trade.
WITH minutes AS (
    SELECT unnest(range(TIMESTAMPTZ '2024-07-19 01:00', TIMESTAMPTZ '2024-07-19 02:00', INTERVAL 1 MINUTE)) AS minute
), holes AS (
    SELECT since, coalesce(until, 'infinity') AS until FROM gaps
    WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND kind = 'trade' AND state IN ('open', 'unrepairable')
), found AS (
    SELECT minute, b.close, coalesce(b.volume_base, 0) AS volume,
           EXISTS (FROM holes h WHERE h.since < minute + INTERVAL 1 MINUTE AND h.until > minute) AS gap
    FROM minutes LEFT JOIN bars_1m('binance', 'BTCUSDT', '2024-07-19 01:00', '2024-07-19 02:00') b
    ON b.window_start = minute
), numbered AS (
    SELECT *, count(*) FILTER (gap) OVER (ORDER BY minute) AS hole FROM found
)
SELECT minute, last_value(close IGNORE NULLS) OVER (PARTITION BY hole ORDER BY minute) AS price, volume, gap
FROM numbered
ORDER BY minute;
