-- Stores jobs that are not stored yet, lets them join their lanes, fills free slots.
-- ARGV: now, then for each job: id, provider, parameters, batch, priority, pinned account, start_at, options
local now = tonumber(ARGV[1])
local grants, providers, added = {}, {}, 0
for i = 2, #ARGV, 8 do
  local id, provider, batch, start_at = ARGV[i], ARGV[i + 1], ARGV[i + 3], tonumber(ARGV[i + 6])
  if redis.call('EXISTS', job_key(id)) == 0 then
    added = added + 1
    local place = (9 - tonumber(ARGV[i + 4])) * PLACES_PER_PRIORITY + redis.call('INCR', P .. 'places')
    local fields = {'provider', provider, 'parameters', ARGV[i + 2], 'batch', batch, 'created', now,
      'place', string.format('%.0f', place)}
    if ARGV[i + 4] ~= '0' then fields[#fields + 1] = 'priority'; fields[#fields + 1] = ARGV[i + 4] end
    if ARGV[i + 5] ~= '' then fields[#fields + 1] = 'pinned'; fields[#fields + 1] = ARGV[i + 5] end
    if ARGV[i + 7] ~= '' then fields[#fields + 1] = 'options'; fields[#fields + 1] = ARGV[i + 7] end
    redis.call('HSET', job_key(id), unpack(fields))
    if batch ~= '' then
      redis.call('HSETNX', batch_key(batch), 'created', now)
      redis.call('HINCRBY', batch_key(batch), 'total', 1)
      redis.call('RPUSH', P .. 'jobs-of:' .. batch, id)
      keep_batch(batch)
    end
    set_state(id, 'queued')
    if start_at > now then redis.call('ZADD', DUE, start_at, 'job:' .. id) else join_lane(id) end
    providers[provider] = true
  end
end
for provider in pairs(providers) do fill(provider, now, grants) end
return {added, grants}
