package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fgtrace/btfx"
	"fgtrace/tracer"
)

// registerCompletions makes shells complete what the flags take.
func registerCompletions(cmd *cobra.Command) {
	fixed := func(words ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"kfunc":  completeFunctions,
		"mode":   fixed("entry", "exit", "entry,exit"),
		"format": fixed("text", "json"),
		"color":  fixed("auto", "always", "never"),
	} {
		if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // a flag that isn't there
		}
	}
}

// maxCompletions bounds what a shell is given; it is of no use beyond a screen.
const maxCompletions = 500

// completeFunctions completes the last name of a list with kernel functions.
func completeFunctions(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	list, name := "", typed
	if i := strings.LastIndexByte(typed, ','); i >= 0 {
		list, name = typed[:i+1], typed[i+1:]
	}
	kernel, err := tracer.Inspect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []string
	collect := func(types *btfx.Types) {
		types.Funcs(func(_ btfx.ID, f string) bool {
			if strings.HasPrefix(f, name) {
				found = append(found, list+f)
			}
			return true
		})
	}
	collect(kernel.Types)
	if modules, err := kernel.Modules(); err == nil {
		for _, m := range modules {
			collect(m.Types)
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return found[:min(len(found), maxCompletions)], cobra.ShellCompDirectiveNoFileComp
}
