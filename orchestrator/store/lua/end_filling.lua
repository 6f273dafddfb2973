-- Somebody has filled a batch. Safe to call twice. ARGV: batch, who, now
end_filling(ARGV[1], tonumber(ARGV[3]), ARGV[2])
return 1
