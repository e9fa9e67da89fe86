-- Question: which closed days are proven, and what do their certificates say?
-- Shows: the newest certificate of each daily file: rows, missing ids, duplicates dropped, and who agrees with it.
SELECT exchange, market_type, kind, symbol, date, revision, rows, missing, duplicates, gap_seconds, verified, issued
FROM certificates
QUALIFY row_number() OVER (PARTITION BY path ORDER BY issued DESC) = 1
ORDER BY exchange, market_type, kind, symbol, date;
