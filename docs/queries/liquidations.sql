-- Question: who was liquidated, and at what price against the bar of that minute?
-- Shows: forced orders (sell: a long was closed) joined with our bars.
SELECT l.ts_event, l.side, l.price, l.qty_quote, b.low, b.high, l.price NOT BETWEEN b.low AND b.high AS outside
FROM liquidations('binance', 'BTCUSDT', '2024-07-19', '2024-07-20') l
LEFT JOIN bars_1m('binance', 'BTCUSDT', '2024-07-19', '2024-07-20') b ON b.window_start = bucket('1m', l.ts_event)
ORDER BY l.ts_event;
