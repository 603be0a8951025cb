// atlas-sdk-go (the Go module proxy) through the proxy: many goroutines at once, with a service account that means nothing or
// with no credential at all.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"

	"go.mongodb.org/atlas-sdk/v20250312006/admin"
	"go.mongodb.org/atlas-sdk/v20250312006/auth/clientcredentials"
)

const goroutines = 64

func main() {
	base, project := os.Getenv("BASE_URL"), os.Getenv("PROJECT")
	config := clientcredentials.NewConfig("mdb_sa_id_placeholder", "mdb_sa_sk_placeholder")
	config.TokenURL = base + "/api/oauth/token"
	config.RevokeURL = base + "/api/oauth/revoke"
	for what, client := range map[string]*http.Client{
		"no credential":   http.DefaultClient,
		"service account": config.Client(context.Background()),
	} {
		sdk, err := admin.NewClient(admin.UseHTTPClient(client), admin.UseBaseURL(base))
		must(err)
		var all sync.WaitGroup
		failed := make(chan error, goroutines)
		for n := range goroutines {
			all.Add(1)
			go func() {
				defer all.Done()
				failed <- user(sdk, project, fmt.Sprintf("go/user %d ü", n))
			}()
		}
		all.Wait()
		close(failed)
		for err := range failed {
			must(err)
		}
		fmt.Printf("%s: %d users made, read and deleted\n", what, goroutines)
	}
}

// user makes a database user, reads it and deletes it again; then it must be gone.
func user(sdk *admin.APIClient, project, name string) error {
	ctx, password := context.Background(), "placeholder-1"
	api := sdk.DatabaseUsersApi
	_, _, err := api.CreateDatabaseUser(ctx, project, &admin.CloudDatabaseUser{
		DatabaseName: "admin", GroupId: project, Username: name, Password: &password,
		Roles: &[]admin.DatabaseUserRole{{DatabaseName: "app", RoleName: "read"}},
	}).Execute()
	if err != nil {
		return err
	}
	read, _, err := api.GetDatabaseUser(ctx, project, "admin", name).Execute()
	if err != nil {
		return err
	}
	if read.Username != name {
		return fmt.Errorf("read %q for %q", read.Username, name)
	}
	if _, err = api.DeleteDatabaseUser(ctx, project, "admin", name).Execute(); err != nil {
		return err
	}
	_, _, err = api.GetDatabaseUser(ctx, project, "admin", name).Execute()
	if !admin.IsErrorCode(err, "USERNAME_NOT_FOUND") {
		return fmt.Errorf("a deleted user: %w", err)
	}
	return nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
