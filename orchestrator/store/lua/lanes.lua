-- Lanes: who waits for what. Part of every step, after common.lua.
-- A lane is `<target>|<owner>`. Target: a provider, providers joined by '+', or `<provider>/<account>` where the
-- job is pinned. Owner: a batch, whose name begins with `<tenant>/` where it is a tenant's; `<tenant>/` alone, or
-- nothing, for jobs of no batch. Each pool of slots that may serve a lane (a provider, or
-- one of its accounts) has an index of lanes by how much they were served: one lane may stand in several.

local function index_key(pool) return P .. 'lanes:' .. pool end
local function lane_key(lane) return P .. 'lane:' .. lane end
local function tenants_key(pool) return P .. 'tenants:' .. pool end
local function owed_key(pool) return P .. 'owed:' .. pool end

-- As a job's record says it; nil or false for what it does not say.
local function lane_name(provider, pinned, target, tenant, batch)
  local owner = batch == '' and tenant and tenant .. '/' or batch
  return (target or (pinned and provider .. '/' .. pinned) or provider) .. '|' .. owner
end

local function lane_of(id)
  local job = redis.call('HMGET', job_key(id), 'provider', 'pinned', 'target', 'tenant', 'batch')
  return lane_name(unpack(job, 1, 5)), job[5]
end

local function pools_of(lane)
  local pools = {}
  for pool in string.gmatch(string.match(lane, '^[^|]*'), '[^+]+') do pools[#pools + 1] = pool end
  return pools
end

local function provider_of(pool) return string.match(pool, '^[^/]*') end

-- The providers that may serve a job.
local function providers_of(id)
  local job = redis.call('HMGET', job_key(id), 'provider', 'target')
  if not job[2] then return {job[1]} end
  return pools_of(job[2])
end

local function tenant_of(lane) return string.match(lane, '|([^/]+)/') end

-- Who is served by a lane: its tenant as a whole, or its batch.
local function owner_of(lane) return string.match(lane, '|([^/]+/)') or string.match(lane, '|(.*)$') end

local function weight_of(owner) return tonumber(redis.call('HGET', WEIGHTS, owner) or '1') end

-- How many lanes of a pool are its tenant's; 0 where it is nobody's.
local function lanes_of_tenant(pool, tenant)
  return tenant and tonumber(redis.call('HGET', tenants_key(pool), tenant) or '0') or 0
end

-- A lane begins level with those that are served now: it neither waits for them nor they for it. What its owner
-- was served before, it has been served; the lanes of a tenant begin one after the other.
local function begin_lane(lane)  -- seldom
  local tenant, owner = tenant_of(lane), owner_of(lane)
  local weight = weight_of(owner)
  for _, pool in ipairs(pools_of(lane)) do
    local served = tonumber(redis.call('GET', served_key(provider_of(pool))) or '0')
    local owed = tonumber(redis.call('ZSCORE', owed_key(pool), owner) or '0')
    local level = math.max(served, owed) + lanes_of_tenant(pool, tenant) / weight
    if redis.call('ZADD', index_key(pool), 'NX', level, lane) == 1 and tenant then
      redis.call('HINCRBY', tenants_key(pool), tenant, 1)
    end
  end
end

local function end_lane(lane)  -- seldom
  local tenant = tenant_of(lane)
  for _, pool in ipairs(pools_of(lane)) do
    if redis.call('ZREM', index_key(pool), lane) == 1 and tenant then
      if redis.call('HINCRBY', tenants_key(pool), tenant, -1) <= 0 then
        redis.call('HDEL', tenants_key(pool), tenant)
      end
    end
  end
end

-- `places`: place and id of each that enters; one batch's, as a lane is.
local function enter_lane(lane, batch, places)
  local is_new = redis.call('EXISTS', lane_key(lane)) == 0
  redis.call('ZADD', lane_key(lane), unpack(places))
  if not is_new then return end
  if batch ~= '' then redis.call('SADD', P .. 'lanes-of:' .. batch, lane) end
  if not (batch ~= '' and is_paused('batch', batch)) then begin_lane(lane) end
end

local function join_lane(id)
  local job = redis.call('HMGET', job_key(id), 'place', 'expires')
  local lane, batch = lane_of(id)
  enter_lane(lane, batch, {job[1], id})
  if job[2] then redis.call('ZADD', DUE, job[2], 'job:' .. id) else redis.call('ZREM', DUE, 'job:' .. id) end
end

local function leave_lane(id)
  local lane = lane_of(id)
  local left = redis.call('ZREM', lane_key(lane), id)
  if redis.call('EXISTS', lane_key(lane)) == 0 then end_lane(lane) end
  return left == 1
end

local function pause_batch(batch, why)  -- seldom
  redis.call('SADD', PAUSED, 'batch:' .. batch)
  redis.call('HSET', batch_key(batch), 'paused', why)
  for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes-of:' .. batch)) do end_lane(lane) end
end

local function resume_batch(batch)  -- seldom
  redis.call('SREM', PAUSED, 'batch:' .. batch)
  redis.call('HDEL', batch_key(batch), 'paused')
  for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes-of:' .. batch)) do
    if redis.call('EXISTS', lane_key(lane)) == 1 then begin_lane(lane) end
  end
end

-- What one grant costs a lane: more where its tenant has several, less where its weight is higher.
local function cost_of(pool, lane)
  return math.max(lanes_of_tenant(pool, tenant_of(lane)), 1) / weight_of(owner_of(lane))
end

local function least_served(pool)
  local found = redis.call('ZRANGE', index_key(pool), 0, 0, 'WITHSCORES')
  return found[1], tonumber(found[2])
end

-- Takes the next in line for an account: of the lane least served, first by priority, then by age.
local function next_in_line(provider, account)
  local pool = provider .. '/' .. account
  local lane, served = least_served(pool)
  local common, served_common = least_served(provider)
  if common and (not lane or served_common < served) then pool, lane, served = provider, common, served_common end
  if not lane then return nil end
  -- A lane that was held up may lag; those that begin after it do not begin that far behind.
  local level = tonumber(redis.call('GET', served_key(provider)) or '0')
  if served > level then
    level = served
    redis.call('SET', served_key(provider), tostring(level))
  end
  local id = redis.call('ZPOPMIN', lane_key(lane))[1]
  local cost = cost_of(pool, lane)
  if redis.call('EXISTS', lane_key(lane)) == 0 then
    end_lane(lane)
    redis.call('ZREMRANGEBYSCORE', owed_key(pool), '-inf', level)
    redis.call('ZADD', owed_key(pool), served + cost, owner_of(lane))
  else
    redis.call('ZINCRBY', index_key(pool), cost, lane)
  end
  return id
end

local function someone_waits(provider, account)
  return redis.call('EXISTS', index_key(provider), index_key(provider .. '/' .. account)) > 0
end
