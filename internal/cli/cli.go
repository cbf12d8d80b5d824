package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/perdure/perdure/internal/devredis"
	"github.com/perdure/perdure/internal/doctor"
	"github.com/perdure/perdure/internal/httprequest"
	"github.com/perdure/perdure/jobs"
	"github.com/perdure/perdure/store"
)

// Exit codes, for scripts.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnreachable = 5
	exitQuarantined = 10 // wait
	exitCancelled   = 11 // wait
	exitTimedOut    = 12 // wait
)

// Version is set at build time.
var Version = "dev"

// App is one run of the command line.
type App struct {
	Handlers []jobs.Handler // the application's kinds
	Args     []string       // without the program's name
	Environ  []string
	Out, Err io.Writer

	settings settings
	log      *slog.Logger
}

// exitError ends the program with a code of its own; its text, if any, is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error { return &exitError{exitUsage, err} }

// Main runs the command line of this process and returns its exit code.
func Main(handlers []jobs.Handler) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	redis.SetLogger(silent{}) // go-redis prints what it also returns
	app := &App{Handlers: handlers, Args: os.Args[1:], Environ: os.Environ(), Out: os.Stdout, Err: os.Stderr}
	return app.Run(ctx)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// Run executes the command that the arguments name and returns its exit code.
func (a *App) Run(ctx context.Context) int {
	err := a.execute(ctx)
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(a.Err, "perdure: "+strings.ReplaceAll(text, "\n", "; "))
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, jobs.ErrUnavailable):
		return exitUnreachable
	case errors.Is(err, jobs.ErrInvalid), errors.Is(err, jobs.ErrUnknownKind):
		return exitUsage
	case errors.Is(err, jobs.ErrNotFound):
		return exitNotFound
	case errors.Is(err, jobs.ErrConflict), errors.Is(err, jobs.ErrOtherPayload):
		return exitConflict
	}
	return exitFailed
}

func (a *App) execute(ctx context.Context) error {
	var err error
	if a.settings, err = loadSettings(); err != nil {
		return usage(err)
	}
	root := a.tree()
	root.SetArgs(a.Args)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	return root.ExecuteContext(ctx)
}

// tree is the whole command tree.
func (a *App) tree() *cobra.Command {
	root := &cobra.Command{
		Use:   "perdure",
		Short: "Jobs that perdure: a reliable job processor on asynq and Redis",
		Long: "Jobs that perdure: a reliable job processor on asynq and Redis.\n\n" +
			"Every flag has an environment variable: --redis-url is PERDURE_REDIS_URL (or REDIS_URL), and so on.\n" +
			"Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 Redis unreachable; wait: 10 quarantined, 11 cancelled, 12 timed out.",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	a.settings.commonFlags(root.PersistentFlags())
	root.AddCommand(
		a.devCommand(), a.workerCommand(), a.schedulerCommand(), a.opsCommand(),
		a.jobCommand(), a.deadCommand(), a.queueCommand(), a.depCommand(), a.limitCommand(), a.cronCommand(), a.auditCommand(), a.doctorCommand(), a.drillCommand(), a.benchCommand(), a.versionCommand(), a.exampleCommand(),
	)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(flagError(err)) })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.prepare(root, cmd) }
	return root
}

// flagError says of a flag's value what it must be, as of its variable in the environment.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) || typeBounds[bad.GetFlag().Value.Type()] == "" {
		return err
	}
	return &jobs.InvalidError{Field: "--" + bad.GetFlag().Name, Value: bad.GetValue(), Bound: typeBounds[bad.GetFlag().Value.Type()]}
}

// prepare takes what flags do not say from the environment, and checks it all.
func (a *App) prepare(root, cmd *cobra.Command) error {
	known := map[string]bool{"PERDURE_ISOLATED": true}
	for _, name := range settingNames() {
		known[name] = true
	}
	eachCommand(root, func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[variable(f.Name)] = true })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { known[variable(f.Name)] = true })
	})
	if err := unknownVariables(a.Environ, known); err != nil {
		return usage(err)
	}
	if err := a.fromEnvironment(cmd); err != nil {
		return usage(err)
	}
	if err := a.settings.check(); err != nil {
		return usage(err)
	}
	a.log = a.newLog()
	return nil
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		eachCommand(sub, do)
	}
}

// variable is a flag's twin in the environment.
func variable(flag string) string {
	return "PERDURE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the command's own flags (those that are no settings, which
// envconfig has read already) from their variables.
func (a *App) fromEnvironment(cmd *cobra.Command) error {
	values := map[string]string{}
	for _, entry := range a.Environ {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	var errs []error
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		value, set := values[variable(f.Name)]
		if !set || f.Changed || f.Name == "help" {
			return
		}
		if err := f.Value.Set(value); err != nil {
			errs = append(errs, &jobs.InvalidError{Field: variable(f.Name), Value: value, Bound: cmp.Or(typeBounds[f.Value.Type()], f.Value.Type())})
		}
	})
	return errors.Join(errs...)
}

func (a *App) newLog() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.settings.LogLevel)) // checked before
	options := &slog.HandlerOptions{Level: level}
	if a.settings.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.Err, options))
	}
	return slog.New(slog.NewTextHandler(a.Err, options))
}

// quiet is a log for what runs beneath a command whose answer is its output.
func (a *App) quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// connect opens the store on the Redis that the settings name: given, else that
// of a running `perdure dev`, else the local one.
func (a *App) connect(ctx context.Context) (*store.Store, error) {
	url := a.settings.RedisURL
	if url == "" {
		if found, ok := devredis.Address(a.settings.DataDir); ok {
			url = found
		} else {
			url = "redis://127.0.0.1:6379"
		}
	}
	if a.settings.Durability == string(doctor.Replicated) {
		return store.Connect(ctx, url, store.Replicated(1, 0))
	}
	return store.Connect(ctx, url)
}

// handlers are the application's kinds and the built-in ones.
func (a *App) handlers(loopback bool) ([]jobs.Handler, error) {
	networks, err := a.settings.networks()
	if err != nil {
		return nil, err
	}
	request, err := httprequest.New(httprequest.Options{
		AllowLoopback: loopback, AllowPrivate: a.settings.HTTPAllowPrivate, AllowNets: networks, SecretNames: a.settings.HTTPSecretNames,
	})
	if err != nil {
		return nil, err
	}
	return append(append([]jobs.Handler{}, a.Handlers...), request), nil
}

// noArgs and exactly refuse arguments as usage errors.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usage(fmt.Errorf("expects %s, got %s", what, count(len(args), "argument")))
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(fmt.Errorf("unknown command %q for %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath()))
		}
		return nil
	}, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(commands...)
	return c
}
