"""Which cases fail when one wall is taken down, by the wall, the case's file and its name."""

import os

# What root alone may read.
_OF_ROOT = {"test_kernel.py::test_what_the_kernel_keeps_to_itself_is_not_read"} if os.getuid() == 0 else set[str]()

_OLD = {
    f"test_failing_walls.py::test_with_namespaces_of_its_own_a_program_is_held_by_an_old_landlock_too[{version}]"
    for version in (1, 3, 5)
}

# The attack succeeds.
WITHOUT: dict[str, frozenset[str]] = {
    "bubblewrap": frozenset(
        {
            "test_environments.py::test_installers_do_not_install_into_the_environment",
            "test_environments.py::test_the_environment_is_not_written[bin/activate]",
            "test_environments.py::test_the_environment_is_not_written[lib/python*/site-packages/package/__init__.py]",
            "test_environments.py::test_the_environment_is_not_written[pyvenv.cfg]",
            *(
                f"test_environments.py::test_the_environment_keeps_its_modes_owners_times_and_attributes[{victim}]"
                for victim in ("lib/python*/site-packages", "lib/python*/site-packages/package/__init__.py")
            ),
            "test_namespaces.py::test_its_namespaces_are_not_the_hosts",
            "test_preloaded.py::test_a_file_of_the_home_directory_is_out_of_reach[change-ahead]",
            "test_preloaded.py::test_a_file_of_the_home_directory_is_out_of_reach[change-at start]",
            "test_preloaded.py::test_a_worker_that_is_kept_from_its_walls_is_behind_the_interpreters",
            "test_preloaded.py::test_its_own_environment_and_anothers_are_not_changed",
            "test_reading.py::test_sizes_and_times_of_files_are_not_told",
            "test_reading.py::test_what_happens_in_a_folder_of_the_hosts_is_not_watched",
            "test_reading.py::test_where_a_link_leads_is_not_told",
            "test_server.py::test_the_hosts_network_is_not_told",
            "test_shown.py::test_a_scripts_folder_keeps_its_modes_owners_times_and_attributes",
            "test_shown.py::test_read_paths_around_the_environments_show_nobody_elses[among temporary files]",
            "test_shown.py::test_what_read_paths_name_keeps_its_mode_owner_times_and_attributes",
            "test_writing.py::test_a_file_of_the_home_directory_stays_as_it_is[change]",
            *(
                f"test_zygote.py::test_what_is_mounted_read_only_stays_so[{how}]"
                for how in ("as it is", "in mounts of its own", "in namespaces of its own")
            ),
            *_OF_ROOT,
            *_OLD,
        }
    ),
    "namespaces": frozenset(
        {
            "test_exhaustion.py::test_what_some_runs_may_have_of_processes_others_have_too",
            "test_namespaces.py::test_how_many_processes_others_start_is_not_told",
            "test_namespaces.py::test_proc_lists_its_own_processes_and_no_others",
            "test_namespaces.py::test_whether_others_work_in_a_directory_is_not_told",
            *(
                f"test_namespaces.py::test_nobody_else_is_found[{how}]"
                for how in (
                    "by a handle",
                    "by a signal",
                    "by their groups",
                    "by their priorities",
                    "by their scheduling",
                )
            ),
        }
    ),
    # What executions have is kept apart by mounts of their own too, so that is tried behind fewer walls instead.
    "landlock": frozenset(
        {
            "test_kernel.py::test_no_setting_of_the_kernel_is_opened_for_writing",
            "test_processes.py::test_a_program_stays_the_first_to_die_when_memory_runs_out",
            "test_processes.py::test_nothing_is_written_in_proc_not_even_of_its_own",
            "test_reading.py::test_no_device_of_the_hosts_opens",
            "test_reading.py::test_the_servers_own_code_is_not_read",
            "test_writing.py::test_a_program_stays_the_kernels_first_victim",
            "test_writing.py::test_no_knob_of_the_kernels_is_turned",
            *_OLD,
        }
    ),
    "seccomp": frozenset(
        {
            *(
                f"test_exhaustion.py::test_memory_that_no_process_holds_is_refused[{what}]"
                for what in (
                    *("memfd", "System V segments", "System V semaphores", "System V message queues"),
                    "POSIX message queues",
                )
            ),
            "test_exhaustion.py::test_the_buffer_of_a_socket_stays_as_small_as_it_is",
            *(
                f"test_exhaustion.py::test_what_would_be_counted_nowhere_is_refused[{what}]"
                for what in (
                    *("descriptors of one thread", "pages in a pipe", "pages of a file in a pipe"),
                    "pages of memory in a pipe",
                )
            ),
            "test_kernel.py::test_a_crash_leaves_no_core",
            "test_kernel.py::test_a_filter_of_its_own_permits_nothing_more[ALLOW]",
            "test_kernel.py::test_a_filter_of_its_own_permits_nothing_more[LOG]",
            "test_kernel.py::test_a_filter_of_its_own_permits_nothing_more[USER_NOTIF]",
            "test_kernel.py::test_no_ioctl_of_file_systems_reaches_what_it_may_write",
            "test_kernel.py::test_no_personality_of_old_is_taken",
            "test_kernel.py::test_tools_of_administration_do_nothing",
            "test_network.py::test_a_datagram_pair_reaches_no_socket_of_the_hosts",
            "test_network.py::test_no_family_of_sockets_opens_but_connected_unix_pairs",
            "test_network.py::test_with_the_network_open_only_internet_sockets_open",
            "test_network.py::test_with_the_network_open_still_no_unix_socket_of_the_hosts",
            "test_persistence.py::test_the_interpreter_that_forks_executions_is_not_touched",
            "test_preloaded.py::test_no_socket_of_the_hosts_is_reached[full]",
            "test_preloaded.py::test_no_socket_of_the_hosts_is_reached[none]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[add_key]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[capset]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[keyctl]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[mount_setattr]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[process_vm_readv]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[ptrace]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[setns]",
            "test_privileges.py::test_a_call_that_no_program_needs_is_refused[unshare user]",
            "test_privileges.py::test_a_foreign_system_call_table_kills[i386]",
            "test_privileges.py::test_a_foreign_system_call_table_kills[x32]",
            "test_privileges.py::test_a_thread_in_a_new_namespace_is_not_made_by_clone",
            "test_privileges.py::test_no_capability_is_left_and_none_is_gained_by_a_program",
            "test_processes.py::test_a_program_and_its_children_do_not_trace_each_other",
            "test_server.py::test_the_kernels_keyrings_are_not_read",
            "test_writing.py::test_a_file_that_another_program_is_to_write_is_not_held_up",
            "test_writing.py::test_nothing_with_a_set_user_id_bit_is_left_in_the_output",
            "test_zygote.py::test_no_file_that_it_leaves_gives_a_privilege",
            "test_zygote.py::test_no_process_that_may_do_more_is_taken_over[before Landlock kept domains apart]",
            "test_zygote.py::test_no_process_that_may_do_more_is_taken_over[here]",
        }
    ),
}

# What else is in the way decides, as the kernel was built and set, in other words than the wall's.
UNDECIDED: dict[str, frozenset[str]] = {
    "bubblewrap": frozenset(),
    "namespaces": frozenset(),
    # It lists what bubblewrap shows, where some names are those of the host: below a home where this was cloned there.
    "landlock": frozenset(
        {f"test_reading.py::test_names_of_files_are_not_listed[{place}]" for place in ("root", "home")}
    ),
    "seccomp": frozenset(
        {
            # Found in the session's keyring, where the tests were started with one.
            "test_persistence.py::test_the_next_execution_does_not_find[keys]",
            *(
                f"test_privileges.py::test_a_call_that_no_program_needs_is_refused[{name}]"
                for name in (
                    *("bpf", "finit_module", "init_module", "io_uring_setup", "iopl", "kexec_load"),
                    *("open_by_handle_at", "perf_event_open", "userfaultfd"),
                )
            ),
        }
    ),
}
