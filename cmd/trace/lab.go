package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fgtrace/lab"
)

// labOptions are the options of all of `trace lab`.
type labOptions struct {
	cache  string
	mirror string
	arch   string
}

func newLabCommand() *cobra.Command {
	var o labOptions
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run trace on other kernels, in virtual machines",
		Long: `Run trace on other kernels, in virtual machines.

Kernels come from a Debian mirror: the one of this machine's apt sources, or
the one given with --mirror. Their signatures are checked. Guests are emulated
by QEMU and need neither KVM nor root.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&o.cache, "cache", "", "directory of fetched kernels (default: trace/kernels in the user's cache directory)")
	cmd.PersistentFlags().StringVar(&o.mirror, "mirror", "", "URL of a Debian mirror (default: from this machine's apt sources)")
	cmd.PersistentFlags().StringVar(&o.arch, "arch", runtime.GOARCH, "architecture of the kernels: "+strings.Join(lab.Arches(), ", "))
	cmd.AddCommand(newLabListCommand(&o), newLabFetchCommand(&o), newLabRunCommand(&o))
	return cmd
}

// store opens the store that the options name; progress goes to stderr.
func (o *labOptions) store(stderr io.Writer) (*lab.Store, error) {
	return lab.Open(lab.Options{
		CacheDir: o.cache,
		Mirror:   o.mirror,
		Progress: func(text string) { fmt.Fprintln(stderr, "lab: "+text) },
	})
}

func (o *labOptions) check() error {
	for _, arch := range lab.Arches() {
		if o.arch == arch {
			return nil
		}
	}
	return usageError{fmt.Errorf("read --arch %q: there are %s", o.arch, strings.Join(lab.Arches(), ", "))}
}

// interruptible ends its context when the user presses ctrl-C.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

func newLabListCommand(o *labOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the kernels that the archive has, and those fetched",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			s, err := o.store(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			series, err := s.List(ctx, o.arch)
			if err == nil || len(series) > 0 {
				if werr := writeSeries(cmd.OutOrStdout(), series); werr != nil {
					return werr
				}
			}
			for _, f := range s.FailedSuites(o.arch) {
				fmt.Fprintf(cmd.ErrOrStderr(), "lab: %v\n", f)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nkernels for %s, kept in %s; this machine runs %s\n", o.arch, s.Dir(), hostRelease())
			return err
		},
	}
}

func writeSeries(w io.Writer, series []lab.SeriesInfo) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SERIES\tNEWEST\tFETCHED\tSUITE\tRELEASE")
	for _, s := range series {
		var have []string
		for _, k := range s.Cached {
			have = append(have, k.Version)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", s.Series, dash(s.Newest), dash(strings.Join(have, ",")), dash(s.Suite), dash(s.Release))
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func hostRelease() string {
	data, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "an unknown kernel"
	}
	return strings.TrimSpace(string(data)) + " (" + runtime.GOARCH + ")"
}

func newLabFetchCommand(o *labOptions) *cobra.Command {
	var modules bool
	cmd := &cobra.Command{
		Use:     "fetch SERIES...",
		Short:   "Fetch the newest kernel of each series",
		Example: "  trace lab fetch 6.12 7.2\n  trace lab fetch 6.12 --arch arm64",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("read kernels: none given; trace lab list shows the series")}
			}
			for _, a := range args {
				if !lab.IsSeries(a) {
					return usageError{fmt.Errorf("read kernel %q: not a series like 6.12", a)}
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			s, err := o.store(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			// A kernel that is gone must not keep the others away.
			var errs []error
			for _, series := range args {
				k, err := s.Kernel(ctx, series, o.arch)
				if err == nil && modules {
					k, err = s.FetchModules(ctx, k)
				}
				if err != nil {
					errs = append(errs, err)
					continue
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", k.Name(), k.Image); err != nil {
					return err
				}
			}
			if o.arch != runtime.GOARCH && ctx.Err() == nil {
				if _, err := s.Busybox(ctx, o.arch); err != nil {
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&modules, "modules", false, "fetch the kernels' modules too")
	return cmd
}

// labRun are the options of `trace lab run`.
type labRun struct {
	*labOptions
	kernels       []string
	root          string
	modules       []string
	binary        string
	cpus          int
	memoryMB      int
	icount        bool
	exec          bool
	kernelOutput  bool
	timeout       time.Duration
	archIsDefault bool
}

func newLabRunCommand(o *labOptions) *cobra.Command {
	r := labRun{labOptions: o}
	cmd := &cobra.Command{
		Use:   "run -K KERNEL[,KERNEL...] [flags] -- TRACE-ARGS...",
		Short: "Boot kernels and run trace with these arguments on each",
		Long: `Boot kernels and run trace with these arguments on each.

A KERNEL is a series, whose newest kernel is fetched if needed, or the path of
a kernel image. The guest has busybox' programs, the loopback device and what
--root puts there. The exit status is not 0 if it was not 0 on one kernel.`,
		Example: `  trace lab run -K 6.12,7.2 -- -k ip_rcv -- ping -c1 127.0.0.1
  trace lab run -K 7.2 --module veth --root ./files --exec -- sh /test.sh
  trace lab run -K 6.12 --arch arm64 --binary ./trace-arm64 -- --version`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.archIsDefault = !cmd.Flags().Changed("arch")
			return r.run(cmd, args)
		},
	}
	f := cmd.Flags()
	// What follows the first argument belongs to the guest's trace.
	f.SetInterspersed(false)
	f.StringSliceVarP(&r.kernels, "kernel", "K", nil, "kernels: series (6.12) or paths of images, separated by commas")
	f.StringVar(&r.root, "root", "", "directory with files for the guest's root")
	f.StringArrayVar(&r.modules, "module", nil, "kernel module to load in the guest (repeatable)")
	f.StringVar(&r.binary, "binary", "", "binary to run instead of this one")
	f.IntVar(&r.cpus, "cpus", lab.DefaultCPUs, "CPUs of the guest")
	f.IntVar(&r.memoryMB, "memory", lab.DefaultMemoryMB, "memory of the guest in MB")
	f.BoolVar(&r.icount, "icount", false, "let the guest's clock count instructions: slower, but the same in every run")
	f.BoolVar(&r.exec, "exec", false, "run the arguments as a command of the guest, where trace is one of its commands")
	f.BoolVar(&r.kernelOutput, "kernel-output", false, "show the guest's console on stderr")
	f.DurationVar(&r.timeout, "timeout", lab.DefaultTimeout, "longest time for one kernel")
	return cmd
}

func (r *labRun) run(cmd *cobra.Command, args []string) error {
	if err := r.check(); err != nil {
		return err
	}
	if len(r.kernels) == 0 {
		return usageError{errors.New("read --kernel: no kernel given; trace lab list shows the series")}
	}
	if len(args) == 0 {
		return usageError{errors.New("read arguments: none for trace in the guest; give them after --")}
	}
	if r.icount && r.cpus != 1 {
		return usageError{errors.New("read --icount: it needs --cpus 1")}
	}
	if r.cpus < 1 || r.memoryMB < 64 || r.timeout <= 0 {
		return usageError{errors.New("read options: --cpus, --memory (at least 64) and --timeout must be positive")}
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	s, err := r.store(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range r.kernels {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		if err := r.one(ctx, cmd, s, name, args); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// one boots one kernel.
func (r *labRun) one(ctx context.Context, cmd *cobra.Command, s *lab.Store, name string, args []string) error {
	k, err := r.kernel(ctx, s, name)
	if err != nil {
		return err
	}
	vm := lab.VM{
		Kernel: k, Root: r.root, Modules: r.modules, CPUs: r.cpus, MemoryMB: r.memoryMB,
		ICount: r.icount, Timeout: r.timeout,
	}
	if vm.Binary, err = r.guestBinary(k.Arch); err != nil {
		return err
	}
	// Another binary need not know how to be PID 1.
	if r.binary != "" && k.Arch == runtime.GOARCH {
		if vm.Init, err = os.Executable(); err != nil {
			return fmt.Errorf("find this binary: %w", err)
		}
	}
	if vm.Busybox, err = s.Busybox(ctx, k.Arch); err != nil {
		return err
	}
	if r.kernelOutput {
		vm.Console = cmd.ErrOrStderr()
	}
	out := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(out, "== %s\n", k.Name()); err != nil {
		return err
	}
	argv := args
	if !r.exec {
		argv = append([]string{"trace"}, args...)
	}
	results, err := vm.Run(ctx, lab.Job{Argv: argv, Stdout: out, Stderr: cmd.ErrOrStderr()})
	if len(results) > 0 && results[0].Retried {
		fmt.Fprintf(cmd.ErrOrStderr(), "lab: the guest %s panicked once and was booted again\n", k.Name())
	}
	if err != nil {
		return err
	}
	return resultError(argv[0], k, results[0])
}

// resultError is what a result says, nil if all went well.
func resultError(command string, k lab.Kernel, r lab.Result) error {
	switch {
	case r.OK():
		return nil
	case r.Err != nil:
		return fmt.Errorf("run %s on %s: %w", command, k.Name(), r.Err)
	case r.Signal != 0:
		return fmt.Errorf("run %s on %s: ended by signal %d (%v)", command, k.Name(), r.Signal, syscall.Signal(r.Signal))
	}
	return fmt.Errorf("run %s on %s: exit status %d", command, k.Name(), r.ExitCode)
}

// kernel finds a kernel by the name that was given for it.
func (r *labRun) kernel(ctx context.Context, s *lab.Store, name string) (lab.Kernel, error) {
	if !lab.IsSeries(name) {
		if !strings.Contains(name, "/") {
			return lab.Kernel{}, usageError{fmt.Errorf("read kernel %q: neither a series like 6.12 nor a path (with a slash)", name)}
		}
		k, err := lab.KernelFile(name)
		if err != nil {
			return lab.Kernel{}, err
		}
		if !r.archIsDefault && k.Arch != r.arch {
			return lab.Kernel{}, usageError{fmt.Errorf("read --arch %s: kernel %s is for %s", r.arch, name, k.Arch)}
		}
		return k, nil
	}
	k, err := s.Kernel(ctx, name, r.arch)
	if err != nil {
		return lab.Kernel{}, err
	}
	if len(r.modules) > 0 {
		return s.FetchModules(ctx, k)
	}
	return k, nil
}

// guestBinary is the binary for a guest: the one that was given, or this one
// where it can run there.
func (r *labRun) guestBinary(arch string) (string, error) {
	if r.binary != "" {
		return r.binary, nil
	}
	if arch != runtime.GOARCH {
		return "", usageError{fmt.Errorf("find binary for a guest of %s: this one is for %s; build one with\n"+
			"\tCGO_ENABLED=0 GOARCH=%s go build -o trace-%s ./cmd/trace\nand give --binary ./trace-%s", arch, runtime.GOARCH, arch, arch, arch)}
	}
	return os.Executable()
}
