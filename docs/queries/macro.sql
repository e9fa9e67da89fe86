-- Question: does crypto move with shares and currencies?
-- Shows: the correlation of minute returns with what is no crypto (equities, FX, indices), in the minutes both have.
WITH both_sides AS (
    SELECT m.symbol, m.ts, ln(m.close / lag(m.close) OVER (PARTITION BY m.symbol ORDER BY m.ts)) AS theirs,
           ln(b.close / lag(b.close) OVER (PARTITION BY m.symbol ORDER BY m.ts)) AS ours
    FROM macro_minute m JOIN bars_1m('binance', 'BTCUSDT', '2024-07-19', '2024-07-20') b ON b.window_start = m.ts
    WHERE m.date = '2024-07-19'
)
SELECT symbol, count(theirs) AS minutes, round(corr(ours, theirs), 3) AS correlation
FROM both_sides
GROUP BY symbol
ORDER BY symbol;
