-- Question: over which connections did the rows of a day come?
-- Shows: rows by session with its address; `dl trace` shows the very frame of a row.
SELECT t.source, t.session, s.url, s.opened, count(*) AS rows, min(t.frame_no) AS first_frame, max(t.frame_no) AS last_frame
FROM trades('binance', 'BTCUSDT', '2024-07-19', '2024-07-20') t LEFT JOIN sessions s USING (session)
GROUP BY ALL
ORDER BY rows DESC, t.session;
