package main

import "fgtrace/lab/guest"

// runGuestInit is PID 1 of a guest of `trace lab`, where it never returns.
// Anywhere else it returns false at once.
func runGuestInit() bool { return guest.Main() }
