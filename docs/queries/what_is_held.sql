-- Question: what does this lake hold, of which days, and how large is it?
-- Shows: a row for each exchange, market and kind; hot parts count as well as closed days.
SELECT exchange, market_type, kind, min(date) AS first_day, max(date) AS last_day,
       count(*) AS files, sum(rows) AS rows, round(sum(bytes) / 1e6, 1) AS mb
FROM files
GROUP BY ALL
ORDER BY exchange, market_type, kind;
