-- A callback that a step is told of. Of ARGV the last ten: its delivery's key ('' where it has none), the digest of
-- what it brings, for how long both are remembered, how many the journal keeps, how many are parked, at, provider,
-- account, attempt, body
-- What it is where its delivery was taken before: 'again' the very same, or the 'replay' of one with something else
local function taken_before()
  local delivery, digest = ARGV[#ARGV - 9], ARGV[#ARGV - 8]
  local taken = delivery ~= '' and redis.call('GET', delivery)
  return taken and (taken == digest and 'again' or 'replay')
end

-- One of an attempt that is not known, or that cannot be read. Of each attempt the latest few are kept: who has one
-- genuine URL can send to it what he likes, for ever.
local PARKED_OF_ATTEMPT = 8
local function park(attempt, kept, fields)  -- seldom
  local parked, ids = P .. 'parked', P .. 'parked:' .. attempt
  local id = redis.call('XADD', parked, 'MAXLEN', '~', kept, '*', unpack(fields))
  if redis.call('RPUSH', ids, id) > PARKED_OF_ATTEMPT then redis.call('XDEL', parked, redis.call('LPOP', ids)) end
  redis.call('EXPIRE', ids, DAY)
end

-- What it led to. One that was refused may come again.
local function note(word)
  local delivery, digest, remembered, recent, parked, at, provider, account, attempt, body = unpack(ARGV, #ARGV - 9)
  local fields = {'at', at, 'provider', provider, 'account', account, 'attempt', attempt, 'word', word, 'body', body}
  if word == 'unknown' or word == 'unreadable' then
    park(attempt, parked, fields)
  else
    redis.call('XADD', P .. 'callbacks', 'MAXLEN', '~', recent, '*', unpack(fields))
  end
  if delivery ~= '' and word ~= 'mismatch' and word ~= 'unreadable' then
    redis.call('SET', delivery, digest, 'EX', remembered)
  end
end
