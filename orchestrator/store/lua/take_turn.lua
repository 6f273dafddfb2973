-- Takes one request from an account's pace. ARGV: provider, account, now
-- Gives 0, or the seconds until there is one.
return tostring(take_turn(ARGV[1], ARGV[2], tonumber(ARGV[3])))
