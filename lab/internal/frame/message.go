package frame

// The files of a guest that host and PID 1 agree on.
const (
	// TokenEnv is the kernel parameter with the boot's token. The kernel
	// hands parameters it does not know to PID 1 as its environment.
	TokenEnv = "fgtrace_guest"
	// PortEnv is the kernel parameter with the name of the virtio port that
	// frames go to; without it, or without its driver, they go to the
	// console.
	PortEnv = "fgtrace_port"
	// PlanPath is the guest's path of the JSON Plan.
	PlanPath = "/.lab/plan.json"
	// PortModules is the guest's directory of the modules to load before
	// the port is there, in the order of their names.
	PortModules = "/.lab/port"
	// BinaryPath is the guest's path of the binary that is run.
	BinaryPath = "/bin/trace"
)

// Plan is what PID 1 of the guest shall do.
type Plan struct {
	Hostname string
	Modules  []string // guest paths, in the order to load them
	Jobs     []Job
}

// Job is one command.
type Job struct {
	Argv    []string
	Env     []string
	Collect []string // guest paths
}

// Hello is the payload of a Ready frame.
type Hello struct {
	Release string
	Version string
	Arch    string
}

// Status is the payload of an Exit frame.
type Status struct {
	Code   int    // exit status, -1 if there is none
	Signal int    // number of the signal that ended it, 0 if none
	Err    string // why it could not be started
}

// Header is the payload of a File frame.
type Header struct {
	Path string
	Err  string // why it could not be read
}
