-- Holds a provider or a batch, or lets it go on. ARGV: kind, name, now, 1 to pause or 0 to go on
-- Gives the grants.
local kind, name, now, grants, providers = ARGV[1], ARGV[2], tonumber(ARGV[3]), {}, {}
if ARGV[4] == '1' then
  if kind == 'batch' then pause_batch(name, 'a person') else redis.call('SADD', PAUSED, kind .. ':' .. name) end
  return grants
end
if kind == 'provider' then
  redis.call('SREM', PAUSED, 'provider:' .. name)
  providers[name] = true
else
  forgive_failures(name)
  resume_batch(name)
  add_providers_of_batch(name, providers)
end
fill_all(providers, now, grants)
return grants
