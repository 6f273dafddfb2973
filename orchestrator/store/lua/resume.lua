-- Ends an account's rest, and what was learned to its disadvantage. ARGV: provider, account, now
-- Gives the grants.
local grants = {}
end_rest(ARGV[1], ARGV[2])
redis.call('HDEL', account_key(ARGV[1], ARGV[2]), 'learned', 'cut_at', 'elsewhere', 'probe_at',
  'guard_since', 'guard_total', 'guard_moderated')
fill(ARGV[1], tonumber(ARGV[3]), grants)
return grants
