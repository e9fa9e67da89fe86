-- Question: in which minutes do our bars differ from the venue's own candles?
-- Shows: those minutes with both closes and volumes; none is what one hopes for. See docs/reconcile.md for the reasons.
SELECT window_start, our_close, kline_close, our_volume, kline_volume, volume_diff, our_trades, kline_trades, gap
FROM compare_our_vs_kline_1m
WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND date = '2024-07-19' AND NOT same
ORDER BY window_start;
