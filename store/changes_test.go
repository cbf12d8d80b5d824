package store

// scriptChanges is what each case of TestScripts changes in the database: '+' a
// path is new, '-' it is gone, '~' its value is another. A case that is not here
// changes nothing.
const scriptChanges = `
beat 1 again
~perdure:owners o=<time>

beat 1 first
+perdure:owners o=<time>

cancel 1 asked before, retrying by now
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
-asynq:{q}:retry k
-asynq:{q}:t:k p:can
-asynq:{q}:t:k p:due
~asynq:{q}:t:k state=completed

cancel 1 paused
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=cancel k by ada: because (paused -> cancelled)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-asynq:{q}:t:k p:waits
-perdure:{q}:parked k
~asynq:{q}:t:k state=completed

cancel 1 pending
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=cancel k by ada: because (pending -> cancelled)
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
~asynq:{q}:t:k state=completed

cancel 1 quarantined and run now
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=cancel k by ada: because (pending -> cancelled)
-asynq:{q}:pending
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=completed

cancel 1 retrying
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=cancel k by ada: because (retrying -> cancelled)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
~asynq:{q}:t:k state=completed

cancel 2
+asynq:{q}:t:k p:can=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 0=cancel k by ada: because (running -> running, to be cancelled)

cancelled 1
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+perdure:{q}:events 0=cancel k by ada: not wanted (running -> cancelled)
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=completed

checkpoint 1
+asynq:{q}:t:k s:s1=1 <time> <time> {"x":1}

checkpoint 1 cancel asked
+asynq:{q}:t:k s:s1=1 <time> <time> {"x":1}

complete 1
+asynq:{q}:completed k=<time>
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k p:exp=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k result="done"
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=completed

discard 1
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=discard k by ada: because (quarantined -> gone)
+perdure:{q}:forgotten=1
-asynq:{q}:archived k
-asynq:{q}:t:k f:1
-asynq:{q}:t:k msg
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:cat
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:fn
-asynq:{q}:t:k p:inc
-asynq:{q}:t:k p:ltok
-asynq:{q}:t:k p:run
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:s1
-asynq:{q}:t:k state
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k

handback -1
-asynq:{q}:active
-asynq:{q}:lease k
-perdure:{q}:own:o k

absolve 1
-asynq:{q}:t:k p:blame
-asynq:{q}:t:k p:cra
-asynq:{q}:t:k p:row

absolve 1 of two
-asynq:{q}:t:k p:blame
~asynq:{q}:t:k p:cra=1
~asynq:{q}:t:k p:row=1

absolve 1 alone
-asynq:{q}:t:k p:blame
-asynq:{q}:t:k p:icr
~asynq:{q}:t:k p:cra=2
~asynq:{q}:t:k p:row=2

suspect 1
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:cra=1
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:icr=1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> isolation a process of its own
+perdure:{q}:parked k=<time>
+perdure:{q}:suspects k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

handback 1
+asynq:{q}:pending=k
+asynq:{q}:t:k p:ltok=1-o-1
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k state=pending

signal 1 paused otherwise
+asynq:{q}:t:k g:go={"n":1}
+asynq:{q}:t:k i:go=id1
+perdure:{q}:events 0=signal go k by ada: because (paused -> paused, signalled)

signal 1 wakes before its time
+asynq:{q}:pending=k
+asynq:{q}:t:k g:go={"n":1}
+asynq:{q}:t:k i:go=id1
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:events 0=signal go k by ada: because (paused -> pending)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

signal 1 wakes
+asynq:{q}:pending=k
+asynq:{q}:t:k g:go={"n":1}
+asynq:{q}:t:k i:go=id1
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:events 0=signal go k by ada: because (paused -> pending)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

signal 1 pending
+asynq:{q}:t:k g:go={"n":1}
+asynq:{q}:t:k i:go=id1
+perdure:{q}:events 0=signal go k by ada: because (pending -> pending, signalled)

signal 1 before the wait
+asynq:{q}:t:k g:go={"n":1}
+asynq:{q}:t:k i:go=id1
+perdure:{q}:events 0=signal go k by ada: because (running -> running, signalled)

park 3 its time is up
+asynq:{q}:pending=k
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

park 1 with a time
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k p:wait=1 <time> signal go
+perdure:{q}:parked k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

park 3 the signal came first
+asynq:{q}:pending=k
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

park 1
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k p:wait=1 <time> signal go
+perdure:{q}:parked k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

await 1 signal of an armed wait
+asynq:{q}:t:k s:go=1 <time> <time> d{"n":1}
-asynq:{q}:t:k g:go
-asynq:{q}:t:k w:go

await 1 signal
+asynq:{q}:t:k s:go=1 <time> <time> d{"n":1}
-asynq:{q}:t:k g:go

await 1 time up
+asynq:{q}:t:k s:go=1 <time> <time> t

await 0 with a time
+asynq:{q}:t:k w:go=<time> <time> timer

await 0
+asynq:{q}:t:k w:go=0 <time> signal

hold 1 pause
+asynq:{q}:paused=perdure <time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause queue  by ada: because (open -> paused)
+perdure:{q}:holds operator=ada: because

hold 1 pause after foreign resume
+asynq:{q}:paused=perdure <time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=pause queue  by ada: because (open -> paused)

hold 1 resume
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume queue  by ada: because (paused -> open)
-asynq:{q}:paused
-perdure:{q}:holds operator

hold 1 resume foreign
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=resume queue  by ada: because (paused -> open)
-asynq:{q}:paused

hold 1 a program's after a foreign pause
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause queue  by ada: because (paused -> paused)
+perdure:{q}:holds dependency:pay=ada: because
+perdure:{q}:holds operator=asynq: paused with asynq's own tools

hold 3 a foreign pause stays
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=3
+perdure:{q}:events 1=resume queue  by ada: because (paused -> paused)
-perdure:{q}:holds dependency:pay

hold 3 a foreign pause is taken back
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=3
+perdure:{q}:events 1=resume queue  by ada: because (paused -> paused)
~asynq:{q}:paused=perdure <time>

hold 3
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=3
+perdure:{q}:events 2=resume queue  by ada: because (paused -> paused)
-perdure:{q}:holds operator

pause 1
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k p:wait=1 <time> kind pay ments
+asynq:{q}:t:k p:waits=1
+perdure:{q}:parked k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

presence 1
+a ttl=set
+a=server
+b k=job
+b ttl=set

progress 1
+asynq:{q}:t:k h:s1=half

progress 1 cancel asked
+asynq:{q}:t:k h:s1=half

quarantine 1
+asynq:{q}:archived k=<time>
+asynq:{q}:failed:<day> ttl=set
+asynq:{q}:failed:<day>=1
+asynq:{q}:failed=1
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:sig=<signature>
+asynq:{q}:t:k p:ver=1
+perdure:{q}:dead k=<time>
+perdure:{q}:events 0=quarantine k by perdure: exhausted (running -> quarantined)
+perdure:{q}:groups <signature>=<time>
+perdure:{q}:groups:<signature> about
+perdure:{q}:groups:<signature> first=<time>
+perdure:{q}:groups:<signature> seen=1
+perdure:{q}:groups:<signature> v:1=1
+perdure:{q}:groups:<signature>:keys k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=archived

replay 1 failed
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=replay k by ada: because (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=pending

replay 1 start
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=replay k by ada: because (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:s1
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=pending

retry 1
+asynq:{q}:failed:<day> ttl=set
+asynq:{q}:failed:<day>=1
+asynq:{q}:failed=1
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:ver=1
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

cancel 1 paused by an operator
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=cancel k by ada: because (paused -> cancelled)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k state=completed

checkpoint 1 pause asked
+asynq:{q}:t:k s:s1=1 <time> <time> {"x":1}

complete 1 pause asked
+asynq:{q}:completed k=<time>
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k p:exp=<time>
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k result="done"
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=completed

progress 1 pause asked
+asynq:{q}:t:k h:s1=half

resume 1 paused
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume k by ada: because (paused by an operator -> pending)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

resume 1 pending
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume k by ada: because (paused by an operator -> pending)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

resume 1 ran when it was paused
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume k by ada: because (paused by an operator -> pending)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

resume 1 retrying
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume k by ada: because (paused by an operator -> retrying)
-asynq:{q}:t:k p:back
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:retry k=<time>
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:due=<time>

resume 1 scheduled
+asynq:{q}:scheduled k=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resume k by ada: because (paused by an operator -> scheduled)
-asynq:{q}:retry k
-asynq:{q}:t:k p:back
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=scheduled

resume 2 running
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 1=resume k by ada: because (running, to be paused -> running)
-asynq:{q}:t:k p:hold

suspend 1 paused
+asynq:{q}:t:k p:hold=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause k by ada: because (paused -> paused by an operator)
~asynq:{q}:retry k=<time>
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:due=<time>
~asynq:{q}:t:k p:pn=2
~asynq:{q}:t:k p:wait=2 <time> operator ada: because
~perdure:{q}:parked k=<time>

suspend 1 pending
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:hold=ada: because
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> operator ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause k by ada: because (pending -> paused by an operator)
+perdure:{q}:parked k=<time>
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

suspend 1 retrying
+asynq:{q}:t:k p:back=retry <time>
+asynq:{q}:t:k p:hold=ada: because
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> operator ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause k by ada: because (retrying -> paused by an operator)
+perdure:{q}:parked k=<time>
~asynq:{q}:retry k=<time>
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:due=<time>

suspend 1 scheduled
+asynq:{q}:retry k=<time>
+asynq:{q}:t:k p:back=scheduled <time>
+asynq:{q}:t:k p:due=<time>
+asynq:{q}:t:k p:hold=ada: because
+asynq:{q}:t:k p:pn=1
+asynq:{q}:t:k p:wait=1 <time> operator ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause k by ada: because (scheduled -> paused by an operator)
+perdure:{q}:parked k=<time>
-asynq:{q}:scheduled k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=retry

suspend 1 suspect
+asynq:{q}:t:k p:hold=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 0=pause k by ada: because (paused -> paused by an operator)
-perdure:{q}:suspects k
~asynq:{q}:retry k=<time>
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:due=<time>
~asynq:{q}:t:k p:pn=2
~asynq:{q}:t:k p:wait=2 <time> operator ada: because
~perdure:{q}:parked k=<time>

suspend 2
+asynq:{q}:t:k p:hold=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 0=pause k by ada: because (running -> running, to be paused)

forgetgroup 1
-perdure:{q}:groups <signature>
-perdure:{q}:groups:<signature> about
-perdure:{q}:groups:<signature> first
-perdure:{q}:groups:<signature> seen
-perdure:{q}:groups:<signature> v:1

ungroup 1
-perdure:{q}:groups:<signature>:keys k

judge 1 open
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=open group  by ada: because (ignored -> open)
-perdure:{q}:groups:<signature> by
-perdure:{q}:groups:<signature> state

judge 1 resolved
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=resolved group  by ada: because (open -> resolved)
+perdure:{q}:groups:<signature> by=ada: because
+perdure:{q}:groups:<signature> state=resolved

quarantine 1 again, when it was ignored
+asynq:{q}:archived k=<time>
+asynq:{q}:t:k f:2
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:sig=<signature>
+perdure:{q}:dead k=<time>
+perdure:{q}:events 3=quarantine k by perdure: exhausted (running -> quarantined)
+perdure:{q}:groups:<signature>:keys k=<time>
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
~asynq:{q}:failed:<day>=2
~asynq:{q}:failed=2
~asynq:{q}:processed:<day>=2
~asynq:{q}:processed=2
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:cat=<time>
~asynq:{q}:t:k p:fn=2
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k p:run=2
~asynq:{q}:t:k state=archived
~perdure:{q}:groups <signature>=<time>
~perdure:{q}:groups:<signature> seen=2
~perdure:{q}:groups:<signature> v:1=2
~perdure:{q}:tokens=2

quarantine 1 again, when it was resolved
+asynq:{q}:archived k=<time>
+asynq:{q}:t:k f:2
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:sig=<signature>
+perdure:{q}:dead k=<time>
+perdure:{q}:events 3=quarantine k by perdure: exhausted (running -> quarantined)
+perdure:{q}:events 4=reopen group <signature> k by perdure: it was resolved and has failed so again (resolved -> open)
+perdure:{q}:groups:<signature> reopened=1
+perdure:{q}:groups:<signature>:keys k=<time>
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
-perdure:{q}:groups:<signature> by
-perdure:{q}:groups:<signature> state
~asynq:{q}:failed:<day>=2
~asynq:{q}:failed=2
~asynq:{q}:processed:<day>=2
~asynq:{q}:processed=2
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:cat=<time>
~asynq:{q}:t:k p:fn=2
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k p:run=2
~asynq:{q}:t:k state=archived
~perdure:{q}:groups <signature>=<time>
~perdure:{q}:groups:<signature> seen=2
~perdure:{q}:groups:<signature> v:1=2
~perdure:{q}:tokens=2

steer 1 abort
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=abort plan p1  by ada: because (running -> aborted)
+perdure:{q}:plan:p1 ended=<time>
+perdure:{q}:plan:p1 ttl=set
+perdure:{q}:plan:p1 unended=0
+perdure:{q}:plan:p1 unsent=1
+perdure:{q}:plan:p1 why=ada: because
-perdure:{q}:plan:p1:left k
-perdure:{q}:planning
~perdure:{q}:plan:p1 state=aborted

steer 1 resume
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 3=resume plan p1  by ada: because (paused -> selecting)
-perdure:{q}:plan:p1 back
-perdure:{q}:plan:p1 why
~perdure:{q}:plan:p1 state=selecting

steer 1 pause
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=pause plan p1  by ada: because (selecting -> paused)
+perdure:{q}:plan:p1 back=selecting
+perdure:{q}:plan:p1 why=ada: because
~perdure:{q}:plan:p1 state=paused

select 1
+perdure:{q}:plan:p1 selected=1
+perdure:{q}:plan:p1 skipped=1
+perdure:{q}:plan:p1:left k=1000
~perdure:{q}:plan:p1 cursor=next

select 2
+perdure:{q}:plan:p1 selected=1
+perdure:{q}:plan:p1 skipped=1
+perdure:{q}:plan:p1:left k=1000
~perdure:{q}:plan:p1 state=running

select 1 the last
+perdure:{q}:plan:p1 selected=1
+perdure:{q}:plan:p1 skipped=0
+perdure:{q}:plan:p1:left k=<time>
~perdure:{q}:plan:p1 state=running

plan 1
+perdure:{q}:events 0=plan replay p1  by ada: because ( -> selecting)
+perdure:{q}:plan:p1 asked={}
+perdure:{q}:plan:p1 at=<time>
+perdure:{q}:plan:p1 by=ada: because
+perdure:{q}:plan:p1 canary=1
+perdure:{q}:plan:p1 cursor=
+perdure:{q}:plan:p1 from=failed
+perdure:{q}:plan:p1 keep=3600
+perdure:{q}:plan:p1 most=0
+perdure:{q}:plan:p1 on=0
+perdure:{q}:plan:p1 rate=20
+perdure:{q}:plan:p1 stage=1
+perdure:{q}:plan:p1 state=selecting
+perdure:{q}:planning=p1
+perdure:{q}:plans p1=<time>

restore 1 in another database
+asynq:queues=q
+asynq:{q}:archived k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k msg
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:cat=<time>
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:inc=1-o-1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:run=1
+asynq:{q}:t:k p:sig=<signature>
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k s:s1=1 <time> <time> {"x":1}
+asynq:{q}:t:k state=archived
+perdure:{q}:dead k=<time>
+perdure:{q}:events 0=import k by ada: because (in a file -> quarantined)
+perdure:{q}:groups <signature>=<time>
+perdure:{q}:groups:<signature> about
+perdure:{q}:groups:<signature> first=<time>
+perdure:{q}:groups:<signature> seen=1
+perdure:{q}:groups:<signature> v:1=1
+perdure:{q}:groups:<signature>:keys k=<time>
+perdure:{q}:tokens=0

restore 1
+asynq:{q}:archived k=<time>
+asynq:{q}:t:k f:1
+asynq:{q}:t:k msg
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:cat=<time>
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:inc=1-o-1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:run=1
+asynq:{q}:t:k p:sig=<signature>
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k s:s1=1 <time> <time> {"x":1}
+asynq:{q}:t:k state=archived
+perdure:{q}:dead k=<time>
+perdure:{q}:events 2=import k by ada: because (in a file -> quarantined)
+perdure:{q}:groups:<signature>:keys k=<time>
~perdure:{q}:forgotten=0

erase 1
+asynq:{q}:t:k p:erased=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=erase k by ada: because (quarantined -> quarantined, erased)
-asynq:{q}:t:k e:1
-asynq:{q}:t:k g:y
-asynq:{q}:t:k h:x
-asynq:{q}:t:k result
~asynq:{q}:t:k msg
~asynq:{q}:t:k s:s1=1 <time> <time>

replay 1 edited after erase
+asynq:{q}:pending=k
+asynq:{q}:t:k e:1
+asynq:{q}:t:k p:en=1
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=replay k by ada: because (payload edited: ~all of it) (quarantined, erased -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:erased
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:s1
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

replay 1 edited
+asynq:{q}:pending=k
+asynq:{q}:t:k e:1
+asynq:{q}:t:k p:en=1
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 1=replay k by ada: because (payload edited: ~/a -/b) (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:s1
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

cancel 1 undone before
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 3=cancel k by ada: because (pending -> cancelled)
-asynq:{q}:pending
-asynq:{q}:t:k pending_since
~asynq:{q}:t:k state=completed

cancel 2 paused by an operator, to be undone first
+asynq:{q}:pending=k
+asynq:{q}:t:k p:can=ada: because
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 1=cancel k by ada: because (paused -> pending, to be undone)
-asynq:{q}:retry k
-asynq:{q}:t:k p:back
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:hold
-asynq:{q}:t:k p:wait
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

cancel 2 paused, to be undone first
+asynq:{q}:pending=k
+asynq:{q}:t:k p:can=ada: because
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 0=cancel k by ada: because (paused -> pending, to be undone)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
-asynq:{q}:t:k p:wait
-asynq:{q}:t:k p:waits
-perdure:{q}:parked k
~asynq:{q}:t:k state=pending

cancel 2 pending, to be undone first
+asynq:{q}:t:k p:can=ada: because
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 0=cancel k by ada: because (pending -> pending, to be undone)

cancel 2 retrying, to be undone first
+asynq:{q}:pending=k
+asynq:{q}:t:k p:can=ada: because
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=2
+perdure:{q}:events 0=cancel k by ada: because (retrying -> pending, to be undone)
-asynq:{q}:retry k
-asynq:{q}:t:k p:due
~asynq:{q}:t:k state=pending

cancelled 1 undone
+asynq:{q}:completed k=<time>
+asynq:{q}:t:k p:end=cancelled
+asynq:{q}:t:k p:exp=<time>
+perdure:{q}:events 1=cancel k by ada: not wanted (running -> cancelled)
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-asynq:{q}:t:k p:undo
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=completed

checkpoint 1 undoable
+asynq:{q}:t:k p:undos=1
+asynq:{q}:t:k s:s1=1 <time> <time> {"x":1}
+asynq:{q}:t:k u:s1=1

quarantine 1 an undo has failed
+asynq:{q}:archived k=<time>
+asynq:{q}:failed:<day> ttl=set
+asynq:{q}:failed:<day>=1
+asynq:{q}:failed=1
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k f:2
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:sig=<signature>
+perdure:{q}:dead k=<time>
+perdure:{q}:events 1=quarantine k by perdure: exhausted (running -> quarantined)
+perdure:{q}:groups <signature>=<time>
+perdure:{q}:groups:<signature> about
+perdure:{q}:groups:<signature> first=<time>
+perdure:{q}:groups:<signature> seen=1
+perdure:{q}:groups:<signature> v:1=1
+perdure:{q}:groups:<signature>:keys k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:fn=2
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=archived

quarantine 1 undone
+asynq:{q}:archived k=<time>
+asynq:{q}:failed:<day> ttl=set
+asynq:{q}:failed:<day>=1
+asynq:{q}:failed=1
+asynq:{q}:processed:<day> ttl=set
+asynq:{q}:processed:<day>=1
+asynq:{q}:processed=1
+asynq:{q}:t:k p:att=1
+asynq:{q}:t:k p:dead
+asynq:{q}:t:k p:sig=<signature>
+perdure:{q}:dead k=<time>
+perdure:{q}:events 1=quarantine k by perdure: exhausted (running -> quarantined)
+perdure:{q}:groups <signature>=<time>
+perdure:{q}:groups:<signature> about
+perdure:{q}:groups:<signature> first=<time>
+perdure:{q}:groups:<signature> seen=1
+perdure:{q}:groups:<signature> v:1=1
+perdure:{q}:groups:<signature>:keys k=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-asynq:{q}:t:k p:undo
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=archived

replay 1 of an undo that has failed
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=replay k by ada: because (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=pending

replay 1 of an undo that has failed, from the start
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+asynq:{q}:t:k r:s2=1
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=replay k by ada: because (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k p:undo
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:s1
-asynq:{q}:t:k s:s2
-asynq:{q}:t:k s:undo/s2
-asynq:{q}:t:k u:s1
-asynq:{q}:t:k u:s2
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=pending

replay 1 undone
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+asynq:{q}:t:k r:s1=1
+asynq:{q}:t:k r:s2=1
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=replay k by ada: because (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k s:s1
-asynq:{q}:t:k s:s2
-asynq:{q}:t:k s:undo/s1
-asynq:{q}:t:k s:undo/s2
-asynq:{q}:t:k u:s1
-asynq:{q}:t:k u:s2
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=pending

replay 1 undone, from the start
+asynq:{q}:pending=k
+asynq:{q}:t:k pending_since=<time>
+asynq:{q}:t:k r:s1=1
+asynq:{q}:t:k r:s2=1
+perdure:{q}:decided:<nonce> ttl=set
+perdure:{q}:decided:<nonce>=1
+perdure:{q}:events 2=replay k by ada: because (quarantined -> pending)
-asynq:{q}:archived k
-asynq:{q}:t:k p:att
-asynq:{q}:t:k p:dead
-asynq:{q}:t:k p:sig
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:s1
-asynq:{q}:t:k s:s2
-asynq:{q}:t:k s:undo/s1
-asynq:{q}:t:k s:undo/s2
-asynq:{q}:t:k u:s1
-asynq:{q}:t:k u:s2
-perdure:{q}:dead k
-perdure:{q}:groups:<signature>:keys k
~asynq:{q}:t:k state=pending

takeback 1
+asynq:{q}:pending=k
+asynq:{q}:t:k f:1
+asynq:{q}:t:k p:fn=1
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:undo=quarantine {"outcome":"quarantine","reason":"exhausted","entry":{"class":"transient","rule":"","reason":"exhausted","kind":"","message":"boom","signature":"","worker":""},"since":"<day>T22:13:20Z","attempts":0}
+asynq:{q}:t:k p:ver=1
+asynq:{q}:t:k pending_since=<time>
+perdure:{q}:events 0=undo k by perdure: exhausted (running -> pending, to be undone)
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

checkpoint 1 asked to be cancelled and being undone
+asynq:{q}:t:k s:undo/s1=2 <time> <time> 1

continue 1
+asynq:{q}:pending=k
+asynq:{q}:t:k p:ltok=1-o-1
+asynq:{q}:t:k p:round=1
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k p:tok
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k state=pending

continue 1 with all that may be recorded
+asynq:{q}:pending=k
+asynq:{q}:t:k p:round=1
+asynq:{q}:t:k pending_since=<time>
-asynq:{q}:active
-asynq:{q}:lease k
-asynq:{q}:t:k b:kids
-asynq:{q}:t:k c:kids
-asynq:{q}:t:k h:s3
-asynq:{q}:t:k i:go
-asynq:{q}:t:k p:kids
-asynq:{q}:t:k p:tok
-asynq:{q}:t:k p:undos
-asynq:{q}:t:k p:ver
-asynq:{q}:t:k s:go
-asynq:{q}:t:k s:s1
-asynq:{q}:t:k s:s2
-asynq:{q}:t:k u:s1
-asynq:{q}:t:k u:s2
-asynq:{q}:t:k w:never
-perdure:{q}:own:o k
~asynq:{q}:t:k msg
~asynq:{q}:t:k p:ltok=2-o-2
~asynq:{q}:t:k state=pending
`
