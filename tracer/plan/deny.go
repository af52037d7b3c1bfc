package plan

const (
	inHelper   = "runs in every program of ours"
	inRing     = "runs with the ring buffer's lock held"
	inLost     = "runs in our programs when a record is lost"
	inStack    = "runs in our programs when a stack is taken"
	inDispatch = "runs around every BPF program"
	inSwitch   = "returns as another task than it was called by"
)

// DenyList returns the functions that must not be traced, with the reasons. But for
// one they are functions that our own programs run, or that run while a lock is
// held that they take: a program on one of them would start itself, or wait for
// itself.
func DenyList() map[string]string {
	return map[string]string{
		"__rcu_read_lock":                     inDispatch,
		"__rcu_read_unlock":                   inDispatch,
		"migrate_disable":                     inDispatch,
		"migrate_enable":                      inDispatch,
		"rcu_read_unlock_strict":              inDispatch,
		"rcu_read_unlock_special":             inDispatch,
		"bpf_get_current_pid_tgid":            inHelper,
		"bpf_get_current_comm":                inHelper,
		"bpf_get_current_task":                inHelper,
		"bpf_get_current_task_btf":            inHelper,
		"bpf_get_smp_processor_id":            inHelper,
		"bpf_ktime_get_ns":                    inHelper,
		"ktime_get_mono_fast_ns":              inHelper,
		"bpf_probe_read_kernel":               inHelper,
		"bpf_probe_read_kernel_str":           inHelper,
		"bpf_probe_read_user_str":             inHelper,
		"copy_from_kernel_nofault":            inHelper,
		"copy_from_kernel_nofault_allowed":    inHelper,
		"strncpy_from_kernel_nofault":         inHelper,
		"strncpy_from_user_nofault":           inHelper,
		"bpf_ringbuf_reserve":                 inHelper,
		"__bpf_ringbuf_reserve":               inHelper,
		"bpf_ringbuf_submit":                  inHelper,
		"bpf_ringbuf_commit":                  inHelper,
		"bpf_get_attach_cookie_kprobe_multi":  inHelper,
		"bpf_get_attach_cookie_tracing":       inHelper,
		"bpf_session_is_return":               inHelper,
		"bpf_session_cookie":                  inHelper,
		"_raw_spin_lock_irqsave":              inRing,
		"_raw_spin_unlock_irqrestore":         inRing,
		"_raw_spin_trylock":                   inRing,
		"resilient_queued_spin_lock_slowpath": inRing,
		"native_queued_spin_lock_slowpath":    inRing,
		"queued_spin_lock_slowpath":           inRing,
		"percpu_array_map_lookup_elem":        inLost,
		"__htab_map_lookup_elem":              inHelper,
		"htab_map_update_elem":                inLost,
		"htab_map_delete_elem":                inLost,
		"alloc_htab_elem":                     inLost,
		"free_htab_elem":                      inLost,
		"lookup_elem_raw":                     inLost,
		"lookup_nulls_elem_raw":               inHelper,
		"pcpu_freelist_pop":                   inLost,
		"pcpu_freelist_push":                  inLost,
		"__pcpu_freelist_pop":                 inLost,
		"__pcpu_freelist_push":                inLost,
		"bpf_get_stack":                       inStack,
		"__bpf_get_stack":                     inStack,
		"get_perf_callchain":                  inStack,
		"perf_callchain_kernel":               inStack,
		"__unwind_start":                      inStack,
		"unwind_next_frame":                   inStack,
		"unwind_get_return_address":           inStack,
		"is_bpf_text_address":                 inStack,
		"bpf_ksym_find":                       inStack,
		"kernel_text_address":                 inStack,
		"__kernel_text_address":               inStack,
		"is_module_text_address":              inStack,
		"__module_address":                    inStack,
		"__switch_to":                         inSwitch,
	}
}
