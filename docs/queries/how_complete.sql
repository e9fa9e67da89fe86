-- Question: how complete is a day of trades?
-- Shows: seconds in which they were asked for and came, seconds of gaps that are still open inside them, ids that are
-- missing, and whether nothing is (`complete`).
WITH day AS (
    SELECT TIMESTAMPTZ '2024-07-19' AS low, TIMESTAMPTZ '2024-07-20' AS high
), covered AS (
    SELECT symbol, sum(epoch(least(until, high) - greatest(since, low))) AS seconds
    FROM coverage, day
    WHERE exchange = 'binance' AND kind = 'trade' AND since < high AND until > low
    GROUP BY symbol
), missing AS (
    SELECT symbol, sum(epoch(least(coalesce(until, high), high) - greatest(since, low))) AS seconds,
           sum(id_to - id_from) AS ids
    FROM gaps, day
    WHERE exchange = 'binance' AND kind = 'trade' AND state IN ('open', 'unrepairable')
      AND since < high AND coalesce(until, high) > low
    GROUP BY symbol
)
SELECT c.symbol, round(c.seconds) AS covered_s, coalesce(round(m.seconds), 0) AS missing_s,
       coalesce(m.ids, 0) AS missing_ids, m.symbol IS NULL AND c.seconds >= 86400 AS complete
FROM covered c LEFT JOIN missing m USING (symbol)
ORDER BY c.symbol;
