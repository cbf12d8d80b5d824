package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/perdure/perdure/examples/orders"
	"github.com/perdure/perdure/internal/drill"
	"github.com/perdure/perdure/jobs"
)

// startSamples starts the order example's services for `dev --samples`.
func (a *App) startSamples(ctx context.Context) (*drill.Services, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this binary, which runs the sample services: %w", err)
	}
	dir := filepath.Join(a.settings.DataDir, "samples")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	services, err := drill.StartServices(ctx, executable, dir, io.Discard)
	if err != nil {
		return nil, err
	}
	for name, value := range services.Variables() { // for suspects, which run in a process of their own
		if err := os.Setenv(name, value); err != nil {
			return nil, errors.Join(err, services.Stop())
		}
	}
	return services, nil
}

// playSamples runs a few orders, one of them twice and one against a slow
// service, and prints what became of them.
func (a *App) playSamples(ctx context.Context, client jobs.Client, services *drill.Services) error {
	list, err := orders.Sample()
	if err != nil {
		return err
	}
	list = list[:5]
	slow := list[4]
	fault := orders.Fault{Mode: "slow", DelayMS: 2500, Count: 1, Path: "/reserve", Match: slow.ID}
	if err := orders.SetFault(ctx, services.URL("warehouse"), fault); err != nil {
		return err
	}
	run := time.Now().Format("150405")
	var handles []jobs.Handle
	for _, o := range append(list, list[0]) {
		h, err := client.Enqueue(ctx, orders.Fulfil.New(o.ID+"@"+run, o))
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	a.printf("\nSample orders (the last is a duplicate, %s meets a slow warehouse):\n", slow.ID)
	rows := [][]string{{"KEY", "STATE", "DUPLICATE", "EXECUTIONS", "STEPS", "RESULT"}}
	for _, h := range handles {
		info, err := h.Wait(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, []string{info.Key, string(info.State), fmt.Sprint(h.Duplicate), fmt.Sprint(info.Runs), fmt.Sprint(len(info.Steps)), string(info.Result)})
	}
	a.table(rows...)
	a.printf("Look       perdure job get %s\n\nRunning; stop with Ctrl-C.\n", slow.ID+"@"+run)
	return nil
}
