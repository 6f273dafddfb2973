-- Spend: what became of each generation that was begun. Part of every step, after lanes.lua.
-- committed: begun, and not settled · confirmed: paid for · refunded: the provider did not take it, so it costs
-- nothing · at_risk: given up without knowing, or failed at the provider, so it may have been paid for.

local CENT = 1e-6  -- sums of binary fractions are compared this closely

local function spend_key(provider, account) return P .. 'spend:' .. provider .. '/' .. account end
local function spend_of_key(batch) return P .. 'spend-of:' .. batch end

local function price_of(provider, account) return tonumber(account_field(provider, account, 'price') or '0') end

-- Whether one more generation would exceed what may be spent at the account: its `max_spend`.
local function is_spent(provider, account, max_spend)
  local most = tonumber(max_spend or '0')
  if most <= 0 then return false end
  return tonumber(redis.call('HGET', spend_key(provider, account), 'cost') or '0') + price_of(provider, account) > most + CENT
end

-- `most`: what the batch may cost; nil or false: no cap.
local function is_batch_spent(most, batch, price)
  return most and tonumber(redis.call('HGET', spend_of_key(batch), 'cost') or '0') + price > tonumber(most) + CENT
end

local function book_in(book, entry, before, fate, price)
  if before then redis.call('HINCRBY', book, entry .. before, -1) end
  redis.call('HINCRBY', book, entry .. fate, 1)
  if tonumber(price) == 0 then return end
  if not before or before == 'refunded' then redis.call('HINCRBYFLOAT', book, 'cost', price) end
  if fate == 'refunded' then redis.call('HINCRBYFLOAT', book, 'cost', '-' .. price) end
end

-- Books what became of a generation. `before`: what was booked of it so far; nil or false: nothing.
-- The caller keeps the new fate with the attempt.
local function book(provider, account, batch, before, fate, opened, price)
  if before == fate then return end
  book_in(spend_key(provider, account), math.floor(tonumber(opened) / DAY) .. '/', before, fate, price)
  if batch ~= '' then
    book_in(spend_of_key(batch), provider .. '/' .. account .. '/', before, fate, price)
  end
end

-- Says what became of a generation. Safe to call twice; a later word corrects an earlier one.
local function spend(attempt, fate)  -- seldom
  local provider, account, id, before, opened, price =
    unpack(redis.call('HMGET', attempt_key(attempt), 'provider', 'account', 'job', 'fate', 'opened', 'price'))
  book(provider, account, job_field(id, 'batch') or '', before, fate, opened, price)
  redis.call('HSET', attempt_key(attempt), 'fate', fate)
  if before ~= 'refunded' then return end
  -- The provider took it after all: it counts for its day, and is known for as long as its job.
  if tonumber(account_field(provider, account, 'max_per_day') or '0') > 0 then
    redis.call('ZADD', day_key(provider, account), opened, attempt)
  end
  local left = redis.call('TTL', job_key(id))
  if left >= 0 then redis.call('EXPIRE', attempt_key(attempt), left) end
  if left == -1 then redis.call('PERSIST', attempt_key(attempt)) end
end

-- What an attempt has cost that closes with this verdict; nil where it was not begun.
local function fate_of(opened, upstream_id, verdict, charged)
  if not opened then return nil end
  if verdict == 'succeeded' or charged and upstream_id then return 'confirmed' end
  if upstream_id or verdict == 'lost' or verdict == 'cancelled' then return 'at_risk' end
  return 'refunded'
end
