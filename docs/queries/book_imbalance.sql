-- Question: on which side of the book is more to be had?
-- Shows: the share of the best five bids in what the best five levels offer, from samples of the synchronised book.
SELECT ts_event, sum(quantity) FILTER (side = 'bid') / sum(quantity) AS bid_share
FROM book_sample_levels
WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND date = '2024-07-19' AND in_sync AND level <= 5
GROUP BY ts_event
ORDER BY ts_event;
