-- Spend: what became of each generation that was begun. Part of every step, after lanes.lua.
-- committed: begun, and not settled · confirmed: paid for · refunded: the provider did not take it, so it costs
-- nothing · at_risk: given up without knowing, or failed at the provider, so it may have been paid for.

local CENT = 1e-6  -- sums of binary fractions are compared this closely

local function spend_key(provider, account) return P .. 'spend:' .. provider .. '/' .. account end
local function spend_of_key(batch) return P .. 'spend-of:' .. batch end

local function price_of(provider, account) return tonumber(account_field(provider, account, 'price') or '0') end

-- Whether one more generation would exceed what may be spent at the account.
local function is_spent(provider, account)
  local most = tonumber(account_field(provider, account, 'max_spend') or '0')
  if most <= 0 then return false end
  return tonumber(redis.call('HGET', spend_key(provider, account), 'cost') or '0') + price_of(provider, account) > most + CENT
end

-- `most`: what the batch may cost; nil or false: no cap.
local function is_batch_spent(most, batch, price)
  return most and tonumber(redis.call('HGET', spend_of_key(batch), 'cost') or '0') + price > tonumber(most) + CENT
end

-- Says what became of a generation. Safe to call twice; a later word corrects an earlier one.
local function spend(attempt, fate)
  local held = redis.call('HMGET', attempt_key(attempt), 'provider', 'account', 'job', 'fate', 'opened', 'price')
  local before, price = held[4], held[6]
  if before == fate then return end
  local day = math.floor(tonumber(held[5]) / DAY)
  local batch = job_field(held[3], 'batch') or ''
  local books = {{spend_key(held[1], held[2]), day .. '/'}}
  if batch ~= '' then books[2] = {spend_of_key(batch), held[1] .. '/' .. held[2] .. '/'} end
  for _, book in ipairs(books) do
    if before then redis.call('HINCRBY', book[1], book[2] .. before, -1) end
    redis.call('HINCRBY', book[1], book[2] .. fate, 1)
    if price ~= '0' and not before then redis.call('HINCRBYFLOAT', book[1], 'cost', price) end
    if price ~= '0' and fate == 'refunded' then redis.call('HINCRBYFLOAT', book[1], 'cost', '-' .. price) end
    if price ~= '0' and before == 'refunded' then redis.call('HINCRBYFLOAT', book[1], 'cost', price) end
  end
  redis.call('HSET', attempt_key(attempt), 'fate', fate)
end

-- What an attempt has cost that closes with this verdict; nil where it was not begun.
local function fate_of(attempt, verdict, charged)
  local held = redis.call('HMGET', attempt_key(attempt), 'opened', 'upstream_id')
  if not held[1] then return nil end
  if verdict == 'succeeded' or charged and held[2] then return 'confirmed' end
  if held[2] or verdict == 'lost' or verdict == 'cancelled' then return 'at_risk' end
  return 'refunded'
end
