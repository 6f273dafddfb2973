-- Gives an account no work until a time. ARGV: provider, account, now, rest_until, reason, why (JSON)
rest(ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6])
return 1
