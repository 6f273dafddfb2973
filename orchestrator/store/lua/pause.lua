-- Holds a provider or a batch, or lets it go on. ARGV: kind, name, now, 1 to pause or 0 to go on
-- Gives the grants.
local kind, name, now, grants, providers = ARGV[1], ARGV[2], tonumber(ARGV[3]), {}, {}
local pauses = ARGV[4] == '1'
redis.call(pauses and 'SADD' or 'SREM', PAUSED, kind .. ':' .. name)
if kind == 'provider' then
  providers[name] = true
else
  for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes-of:' .. name)) do
    if pauses then
      end_lane(lane)
    elseif redis.call('EXISTS', lane_key(lane)) == 1 then
      begin_lane(lane)
      for _, pool in ipairs(pools_of(lane)) do providers[string.match(pool, '^[^/]*')] = true end
    end
  end
end
if not pauses then
  for provider in pairs(providers) do fill(provider, now, grants) end
end
return grants
