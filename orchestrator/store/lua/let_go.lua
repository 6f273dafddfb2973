-- Lets the finishing of a job go before its lease ends: its worker leaves. ARGV: job
return redis.call('HDEL', job_key(ARGV[1]), 'finishing')
