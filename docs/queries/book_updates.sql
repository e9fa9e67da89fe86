-- Question: how deep in the book do updates happen, and how many take a level away?
-- Shows: the list-valued updates as rows of levels (side, price, quantity, level, last_update_id).
SELECT side, count(DISTINCT last_update_id) AS updates, count(*) AS levels,
       count(*) FILTER (quantity = 0) AS removed, min(price) AS lowest, max(price) AS highest
FROM book_delta_levels
WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND date = '2024-07-19' AND flags = ''
GROUP BY side
ORDER BY side;
