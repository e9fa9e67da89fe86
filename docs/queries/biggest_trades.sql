-- Question: which were the largest trades, and what did the price do in the minute after?
-- Shows: another as-of join, of each of them with the last trade up to a minute later.
WITH large AS (
    SELECT ts_event, seq, side, price, qty_base, ts_event + INTERVAL 1 MINUTE AS later
    FROM trades('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
    ORDER BY qty_base DESC, seq
    LIMIT 10
), after AS (
    SELECT ts_event, price FROM trades('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
)
SELECT l.ts_event, l.seq, l.side, l.price, l.qty_base, round((a.price / l.price - 1) * 1e4, 2) AS moved_bps
FROM large l ASOF JOIN after a ON a.ts_event <= l.later
ORDER BY l.qty_base DESC, l.seq;
