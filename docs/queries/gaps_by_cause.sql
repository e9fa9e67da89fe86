-- Question: why is something missing, and what became of it?
-- Shows: gaps by kind, cause and state, with the ids and seconds they are wide.
SELECT exchange, market_type, kind, cause, state, count(*) AS gaps, sum(id_to - id_from) AS ids,
       round(sum(epoch(until - since)), 3) AS seconds
FROM gaps
GROUP BY ALL
ORDER BY gaps DESC, exchange, market_type, kind, cause, state;
