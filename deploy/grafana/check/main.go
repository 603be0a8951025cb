// Reads a dashboard as Grafana's own schema describes it: no unknown field, none that is missing, none of another type, in the
// dashboard, its panels, their options and their queries.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	for _, path := range os.Args[1:] {
		text, err := os.ReadFile(path)
		read := dashboard.NewDashboard()
		if err == nil {
			err = read.UnmarshalJSONStrict(text)
		}
		// An empty list of errors is what the library returns where it found none.
		if err != nil && err.Error() != "" {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
		fmt.Printf("%s: a dashboard with %d panels and rows\n", path, len(read.Panels))
	}
}
