package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"fgtrace/tracer"
	"fgtrace/tracer/plan"
	"fgtrace/tracer/spec"
)

func newListCommand(stdout, stderr io.Writer) *cobra.Command {
	asJSON, denied := false, false
	cmd := &cobra.Command{
		Use:   "list FUNCTION...",
		Short: "Show kernel functions: prototype, module, and whether they can be traced or why not",
		RunE: func(_ *cobra.Command, args []string) error {
			if denied {
				if len(args) > 0 {
					return usageError{fmt.Errorf("parse arguments: unexpected %q: --denied lists all there are", args[0])}
				}
				return listDenied(asJSON, stdout)
			}
			if len(args) == 0 {
				args = []string{"*"}
			}
			return list(args, asJSON, stdout, stderr)
		},
		ValidArgsFunction: completeFunctions,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one object a line: func, module, prototype, traceable, reason; of --denied func, reason")
	cmd.Flags().BoolVar(&denied, "denied", false, "show the functions that are never traced, with the reasons")
	return cmd
}

// listDenied prints the deny list, sorted by name.
func listDenied(asJSON bool, w io.Writer) error {
	denied := plan.DenyList()
	enc := json.NewEncoder(w)
	for _, name := range slices.Sorted(maps.Keys(denied)) {
		var err error
		if asJSON {
			err = enc.Encode(struct {
				Func   string `json:"func"`
				Reason string `json:"reason"`
			}{name, denied[name]})
		} else {
			_, err = fmt.Fprintf(w, "%s: %s\n", name, denied[name])
		}
		if err != nil {
			return fmt.Errorf("write list: %w", err)
		}
	}
	return nil
}

// listed is a function of `trace list`.
type listed struct {
	Func      string `json:"func"`
	Module    string `json:"module"`
	Prototype string `json:"prototype,omitempty"`
	Traceable bool   `json:"traceable"`
	Reason    string `json:"reason,omitempty"`
}

func list(args []string, asJSON bool, stdout, stderr io.Writer) error {
	targets, err := spec.ParseTargets(args)
	if err != nil {
		return err
	}
	kernel, err := tracer.Inspect()
	if err != nil {
		return err
	}
	p, symbols, err := resolve(&options{targets: targets}, kernel)
	if err != nil {
		return err
	}
	syms, err := symbols()
	if err != nil {
		return err
	}
	if err := syms.Check(p); err != nil {
		return err
	}
	if err := tracer.CheckPatchable(p); err != nil {
		return err
	}
	if err := tracer.Probe(kernel, p); err != nil {
		fmt.Fprintf(stderr, "trace: not verified on this kernel: %v\n", err)
	}
	functions := merge(p)
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetEscapeHTML(false)
		for _, f := range functions {
			if err := enc.Encode(f); err != nil {
				return fmt.Errorf("write list: %w", err)
			}
		}
		return nil
	}
	return printList(functions, stdout)
}

// merge puts the plan's lists, both sorted by name, into one.
func merge(p *plan.Plan) []listed {
	var all []listed
	targets, skipped := p.Targets, p.Skipped
	for len(targets) > 0 || len(skipped) > 0 {
		if len(skipped) == 0 || len(targets) > 0 && targets[0].Func <= skipped[0].Func {
			t := targets[0]
			all = append(all, listed{Func: t.Func, Module: moduleName(t.Module), Prototype: t.Prototype(), Traceable: true})
			targets = targets[1:]
			continue
		}
		s := skipped[0]
		all = append(all, listed{Func: s.Func, Module: moduleName(s.Module), Prototype: s.Prototype, Reason: s.Reason})
		skipped = skipped[1:]
	}
	return all
}

func moduleName(module string) string {
	if module == "" {
		return "vmlinux"
	}
	return module
}

func printList(functions []listed, w io.Writer) error {
	for _, f := range functions {
		mark, text := "+", f.Prototype
		if text == "" {
			text = f.Func
		}
		if !f.Traceable {
			mark = "-"
			text += "  // " + f.Reason
		}
		if f.Module != "vmlinux" {
			text += " [" + f.Module + "]"
		}
		if _, err := fmt.Fprintf(w, "%s %s\n", mark, text); err != nil {
			return fmt.Errorf("write list: %w", err)
		}
	}
	return nil
}
