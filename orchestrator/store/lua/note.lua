-- Notes a callback in the journal. ARGV: word, the callback
note(ARGV[1])
