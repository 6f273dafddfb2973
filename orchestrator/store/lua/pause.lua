-- Holds a provider or a batch, or lets it go on. ARGV: kind, name, now, 1 to pause or 0 to go on
-- Gives the grants.
local kind, name, now, grants, providers = ARGV[1], ARGV[2], tonumber(ARGV[3]), {}, {}
if ARGV[4] == '1' then
  if kind == 'batch' then pause_batch(name, 'a person') else redis.call('SADD', PAUSED, kind .. ':' .. name) end
  return grants
end
redis.call('SREM', PAUSED, kind .. ':' .. name)
if kind == 'provider' then
  providers[name] = true
else
  redis.call('HDEL', batch_key(name), 'paused')
  for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes-of:' .. name)) do
    if redis.call('EXISTS', lane_key(lane)) == 1 then
      begin_lane(lane)
      for _, pool in ipairs(pools_of(lane)) do providers[string.match(pool, '^[^/]*')] = true end
    end
  end
end
for provider in pairs(providers) do fill(provider, now, grants) end
return grants
