# Much at once: with -parallelism=64 that many requests are under way.
terraform {
  required_providers {
    mongodbatlas = { source = "mongodb/mongodbatlas" }
  }
}

provider "mongodbatlas" {}

resource "mongodbatlas_project" "users" {
  name   = "from-tofu"
  org_id = "5a0a1e7e0f2912c554080adc"
}

resource "mongodbatlas_database_user" "users" {
  count              = 200
  project_id         = mongodbatlas_project.users.id
  username           = "user-${count.index}"
  password           = "placeholder-1"
  auth_database_name = "admin"
  roles {
    role_name     = "readWrite"
    database_name = "app"
  }
}
