// Package jobstest runs jobs in memory: no Redis, no worker, and no waiting, for
// time that a job sleeps or waits to be tried again is skipped. [CrashEverywhere]
// proves that a workflow survives a crash at any point.
//
//	job := jobstest.New(t, Fulfil.Do(services.fulfil), order)
//	job.Fail("reserve", errors.New("try later"), 2)
//	outcome := job.Run()
package jobstest
