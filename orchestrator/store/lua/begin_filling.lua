-- Somebody fills a batch, or goes on filling it. ARGV: batch, who, now
begin_filling(ARGV[1], ARGV[2], tonumber(ARGV[3]))
return 1
