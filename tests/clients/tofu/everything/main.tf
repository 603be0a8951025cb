# What the emulator has that Terraform can make.
terraform {
  required_providers {
    mongodbatlas = { source = "mongodb/mongodbatlas" }
  }
}

# All that it needs comes from the environment.
provider "mongodbatlas" {}

variable "regions" { default = null }

locals { organization = "5a0a1e7e0f2912c554080adc" }

resource "mongodbatlas_project" "all" {
  name                           = "from-tofu"
  org_id                         = local.organization
  region_usage_restrictions      = var.regions
  is_data_explorer_enabled       = false
  is_performance_advisor_enabled = true
  tags                           = { environment = "demo" }
  limits {
    name  = "atlas.project.deployment.clusters"
    value = 30
  }
  # The assignment below is read as a part of the project, too.
  lifecycle { ignore_changes = [teams] }
}

resource "mongodbatlas_team" "all" {
  org_id = local.organization
  name   = "from-tofu"
}

resource "mongodbatlas_team_project_assignment" "all" {
  project_id = mongodbatlas_project.all.id
  team_id    = mongodbatlas_team.all.team_id
  role_names = ["GROUP_READ_ONLY"]
}

resource "mongodbatlas_database_user" "plain" {
  project_id         = mongodbatlas_project.all.id
  username           = "plain"
  password           = "placeholder-1"
  auth_database_name = "admin"
  roles {
    role_name     = "readWrite"
    database_name = "app"
  }
}

resource "mongodbatlas_database_user" "odd" {
  project_id         = mongodbatlas_project.all.id
  username           = "odd user/ü"
  password           = "placeholder-1"
  auth_database_name = "admin"
  roles {
    role_name     = "read"
    database_name = "app"
  }
}

resource "mongodbatlas_project_ip_access_list" "office" {
  project_id = mongodbatlas_project.all.id
  cidr_block = "203.0.113.0/24"
  comment    = "office"
}

resource "mongodbatlas_cloud_provider_access_setup" "aws" {
  project_id    = mongodbatlas_project.all.id
  provider_name = "AWS"
}

resource "mongodbatlas_cloud_provider_access_authorization" "aws" {
  project_id = mongodbatlas_project.all.id
  role_id    = mongodbatlas_cloud_provider_access_setup.aws.role_id
  aws { iam_assumed_role_arn = "arn:aws:iam::123456789012:role/atlas" }
}

resource "mongodbatlas_flex_cluster" "flex" {
  project_id        = mongodbatlas_project.all.id
  name              = "flex0"
  provider_settings = { backing_provider_name = "AWS", region_name = "US_EAST_1" }
}
