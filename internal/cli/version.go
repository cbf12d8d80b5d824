package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *App) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": Version, "go": runtime.Version(), "asynq": module("github.com/hibiken/asynq")}
			return a.print(v, func() { a.printf("perdure %s, %s, asynq %s\n", v["version"], v["go"], v["asynq"]) })
		},
	}
}

func module(path string) string {
	build, _ := debug.ReadBuildInfo()
	if build != nil {
		for _, m := range build.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "unknown"
}
