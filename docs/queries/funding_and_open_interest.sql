-- Question: what did holding the contract cost, and how much was held?
-- Shows: hour by hour the settled funding rate (per year, in per cent) and the last open interest, carried on.
SELECT symbol, hour, funding_rate, round(funding_rate * 3 * 365 * 100, 2) AS yearly_percent,
       last_value(open_interest IGNORE NULLS) OVER (PARTITION BY symbol ORDER BY hour) AS open_interest
FROM funding_oi_hourly
WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND date = '2024-07-19'
ORDER BY hour;
