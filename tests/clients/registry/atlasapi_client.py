"""atlasapi (PyPI) through the proxy: it does HTTP Digest itself, and speaks version 1.0 of the API.

BASE_URL and PROJECT come from the environment; the keys mean nothing.
"""

import os

from atlasapi.atlas import Atlas
from atlasapi.specs import DatabaseUsersPermissionsSpecs, IAMType, RoleSpecs

atlas = Atlas("placeholder", "placeholder", os.environ["PROJECT"])

clusters = atlas.Clusters.get_all_clusters(iterable=False)
print("clusters:", [cluster["name"] for cluster in clusters["results"]])

user = DatabaseUsersPermissionsSpecs("python user", "placeholder-1", IAMType.NONE)
user.add_role("app", RoleSpecs.read)
print("made:", atlas.DatabaseUsers.create_a_database_user(user)["username"])
users = atlas.DatabaseUsers.get_all_database_users(iterable=False)
print("users:", [user["username"] for user in users["results"]])
print("one:", atlas.DatabaseUsers.get_a_single_database_user("python user")["username"])
atlas.DatabaseUsers.delete_a_database_user("python user")
users = atlas.DatabaseUsers.get_all_database_users(iterable=False)
print("left:", [user["username"] for user in users["results"]])
atlas.Hosts.fill_host_list()
print("hosts:", len(list(atlas.Hosts.host_list)))
