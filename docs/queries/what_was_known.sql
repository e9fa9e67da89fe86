-- Question: what was known of a feature set when each bar opened?
-- Shows: bars of a day, and beside each the value that was known last then (known_at, never later); see docs/features.md.
SELECT b.window_start, b.close, m.x AS momentum, m.ts_event AS of_time, m.known_at
FROM bars_1m('binance', 'BTCUSDT', '2024-07-19', '2024-07-20') b
ASOF LEFT JOIN (SELECT * FROM features.momentum WHERE exchange = 'binance' AND symbol = 'BTCUSDT') m
    ON b.market_type = m.market_type AND b.window_start >= m.known_at
ORDER BY b.window_start;
