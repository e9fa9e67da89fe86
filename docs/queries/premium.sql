-- Question: how far is the contract from its index?
-- Shows: mark over index in basis points by minute, with the rate that the next funding would have.
SELECT bucket('1m', ts_event) AS minute, arg_max(mark / index - 1, ts_event) * 1e4 AS premium_bps,
       arg_max(predicted_rate, ts_event) AS predicted_rate
FROM mark_prices('binance', 'BTCUSDT', '2024-07-19', '2024-07-20')
GROUP BY minute
ORDER BY minute;
