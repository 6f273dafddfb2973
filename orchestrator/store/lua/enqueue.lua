-- Stores jobs that are not stored yet, lets them join their lanes, fills free slots.
-- ARGV: now, most that may wait (0: no cap), how many more that are new come in later calls, batch that several such
--       calls fill ('': none), who fills it, '1' where another call follows, then for each job: id, provider,
--       parameters, batch, priority, start_at, more (JSON: pinned, target, choices, tenant, options, max_attempts,
--       expires …)
-- Gives {added, grants}; {-1, {how many wait, how many more these are}} where that would be too many.
local now, most, filled, producer, goes_on = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[4], ARGV[5], ARGV[6] == '1'
local grants, providers, queued, batches, lanes, keyed, added = {}, {}, {}, {}, {}, {}, 0

local function put_in_lane(lane, batch, place, id)
  if not lanes[lane] then
    lanes[lane] = {name = lane, batch = batch, places = {}}
    lanes[#lanes + 1] = lanes[lane]
  end
  local places = lanes[lane].places
  places[#places + 1] = place
  places[#places + 1] = id
end

if most > 0 then
  local waiting, counts = 0, redis.call('HGETALL', COUNTS)
  for i = 1, #counts, 2 do
    if string.match(counts[i], '/queued$') then waiting = waiting + tonumber(counts[i + 1]) end
  end
  local more = tonumber(ARGV[3])
  for i = 7, #ARGV, 7 do
    if redis.call('EXISTS', job_key(ARGV[i])) == 0 then more = more + 1 end
  end
  if more > 0 and waiting + more > most then return {-1, {waiting, more}} end
end

local age = redis.call('INCRBY', P .. 'places', (#ARGV - 6) / 7) - (#ARGV - 6) / 7
for i = 7, #ARGV, 7 do
  local id, provider, batch, priority, start_at =
    ARGV[i], ARGV[i + 1], ARGV[i + 3], ARGV[i + 4], tonumber(ARGV[i + 5])
  if redis.call('EXISTS', job_key(id)) == 0 then
    added, age = added + 1, age + 1
    local place = string.format('%.0f', (9 - tonumber(priority)) * PLACES_PER_PRIORITY + age)
    local fields = {'provider', provider, 'parameters', ARGV[i + 2], 'batch', batch, 'created', now, 'place', place,
      'state', 'queued'}
    if priority ~= '0' then fields[#fields + 1] = 'priority'; fields[#fields + 1] = priority end
    local more = ARGV[i + 6] ~= '' and cjson.decode(ARGV[i + 6]) or {}
    for name, value in pairs(more) do
      fields[#fields + 1] = name
      fields[#fields + 1] = tostring(value)
    end
    redis.call('HSET', job_key(id), unpack(fields))
    if more.fingerprint then keyed[#keyed + 1] = id end
    if start_at > now then
      redis.call('ZADD', DUE, start_at, 'job:' .. id)
    else
      if more.expires then redis.call('ZADD', DUE, tostring(more.expires), 'job:' .. id) end
      put_in_lane(lane_name(provider, more.pinned, more.target, more.tenant, batch), batch, place, id)
    end
    for _, pool in ipairs(more.target and pools_of(more.target) or {provider}) do providers[pool] = true end
    queued[provider] = (queued[provider] or 0) + 1
    batches[batch] = batches[batch] or {}
    table.insert(batches[batch], id)
  end
end
-- One that was purged goes on counting its attempts.
if #keyed > 0 then
  local keys = {}
  for i, id in ipairs(keyed) do keys[i] = was_key(id) end
  for i, attempts in ipairs(redis.call('MGET', unpack(keys))) do
    if attempts then redis.call('HSET', job_key(keyed[i]), 'attempts', attempts) end
  end
end
for provider, jobs in pairs(queued) do redis.call('HINCRBY', COUNTS, provider .. '/queued', jobs) end
for batch, ids in pairs(batches) do
  if batch ~= '' then
    redis.call('HINCRBY', batch_key(batch), 'queued', #ids)
    join_batch(batch, ids, now)
  end
end
for _, lane in ipairs(lanes) do enter_lane(lane.name, lane.batch, lane.places) end
if filled ~= '' then
  if goes_on then begin_filling(filled, producer, now) else end_filling(filled, now, producer) end
end
fill_all(providers, now, grants)
return {added, grants}
